"""``python -m train``: dataset to checkpoint, in two stages: the drawn data, if the recipe wants it, and training."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgekp.atomic import write_file
from edgekp.cli import recipe_of, run, stage_parser
from edgekp.recipe import Recipe
from edgekp.stage import Key, run_stage, say
from train.dataset import input_digests, read_pools
from train.drawn import write_dataset
from train.loop import fit
from train.losses import loss_named
from train.models import build, spec_of
from train.models.checkpoint import device, save_checkpoint
from train.task import Task

DATA_VERSION = 1
VERSION = 1


def draw_data(recipe: Recipe) -> None:
    """The embedded data set, drawn once per setting."""
    drawn = recipe.data.drawn
    if drawn:
        key = Key("data", DATA_VERSION, {"drawn": drawn}, {})
        run_stage(recipe.run_folder / "data", key, lambda folder: write_dataset(folder, drawn))


def train_key(recipe: Recipe) -> Key:
    settings = {"data": replace(recipe.data, hint=""), "input": recipe.input, "codec": recipe.codec,
                "model": recipe.model, "train": replace(recipe.train, workers=0), "augment": recipe.augment}
    return Key("train", VERSION, settings, input_digests(recipe, "train"))


def train(recipe: Recipe, *, force: bool, resume: bool) -> None:
    """Train the float baseline of a recipe into its run folder."""
    spec = spec_of(recipe)
    loss_named(recipe.train.loss, recipe.build_codec())  # a misfit is refused before data is drawn
    draw_data(recipe)
    key = train_key(recipe)
    state = recipe.run_folder / "train.partial.safetensors"

    def work(folder: Path) -> None:
        train_pools, val_pools = read_pools(recipe, "train"), read_pools(recipe, "val")
        if state.exists() and not resume:
            say(f"train: an unfinished run is dropped; --resume would have continued it ({state})")
        torch.manual_seed(recipe.train.seed)
        task = Task("train", recipe.contract(), train_pools, val_pools, recipe.train, recipe.augment,
                    state=state, resume=resume and state.exists(), identity=key.to_json())
        net, history = fit(build(spec), task, device())
        save_checkpoint(folder, net, spec, recipe.contract())
        write_file(folder / "history.json", json.dumps(history, indent=1) + "\n")

    if run_stage(recipe.run_folder / "train", key, work, force=force):
        state.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = stage_parser("python -m train", "Train a float keypoint model from a recipe.")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run of the same recipe")

    def command(arguments: argparse.Namespace) -> int:
        train(recipe_of(arguments), force=arguments.force, resume=arguments.resume)
        return 0

    return run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
