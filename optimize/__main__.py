"""``python -m optimize``: the steps of a recipe in order, each a stage of its own from checkpoint to checkpoint."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgekp.artifact import require_contract
from edgekp.atomic import sha256, write_file
from edgekp.cli import recipe_of, run, stage_parser
from edgekp.errors import RecipeError
from edgekp.manifest import MANIFEST
from edgekp.recipe import Recipe
from edgekp.recipe_steps import Distill, Prune, Qat, Quantize, Step
from edgekp.recipe_train import Train
from edgekp.run_lock import locked
from edgekp.stage import KEY_FILE, Key, require_stage, run_stage, say
from edgekp.stage_results import MODELS_FILE, optimized_key
from optimize.distill import distill, teacher_folder
from optimize.prune import facts, prune
from optimize.qat import qat
from optimize.quantize import quantize
from optimize.step import Context, Result
from train.curves import write_history
from train.dataset import input_digests, read_pools
from train.losses import check_loss
from train.models.checkpoint import Checkpoint, device, load_checkpoint, save_checkpoint

VERSION = 1
STEPS: dict[str, Callable[[Checkpoint, Any, Context], Result]] = {
    "prune": prune, "distill": distill, "quantize": quantize, "qat": qat}
MODEL_NAMES = {"prune": "pruned", "distill": "distilled", "quantize": "int8", "qat": "qat"}


def model_names(steps: Sequence[Step]) -> list[str]:
    """The name of the model after each step; a method that occurs again counts up."""
    names: list[str] = []
    for step in steps:
        name, count = MODEL_NAMES[step.method], sum(other.method == step.method for other in steps[:len(names)])
        names.append(f"{name}-{count + 1}" if count else name)
    return names


def step_key(recipe: Recipe, name: str, step: Step, parent: Path, baseline: Path) -> Key:
    """What the result of a step depends on."""
    settings: dict[str, Any] = {step.method: step}
    inputs = {"parent": sha256(parent / "manifest.json"), **input_digests(recipe, "train")}
    repairs = isinstance(step, Quantize) and step.repair
    if repairs or not isinstance(step, Quantize):
        settings |= {"train": _shared(recipe.train), "augment": recipe.augment}
    if repairs:  # the gate of the run judges every rung
        settings |= {"eval": replace(recipe.eval, pictures=0), "export": recipe.export,
                     "gate": {name: getattr(recipe.gate, name) for name in ("budget", "slices", "resamples")}}
        inputs |= {**input_digests(recipe, "val"), "baseline": sha256(baseline / "manifest.json")}
    if isinstance(step, Prune):
        settings["facts"] = facts(step, recipe)
    if isinstance(step, (Distill, Qat)) and step.teacher:
        inputs["teacher"] = sha256(load_checkpoint(teacher_folder(step, baseline)).artifact.folder / "manifest.json")
    return Key(f"optimize {name}", VERSION, settings, inputs)


def _shared(train: Train) -> dict[str, Any]:
    """The training settings that a step takes over; the others are its own, or change no result."""
    own = ("epochs", "lr", "workers", "tensorboard")
    return {name: value for name, value in asdict(train).items() if name not in own}


def optimize(recipe: Recipe, *, force: bool) -> None:
    """Run the steps of a recipe that are not up to date."""
    if not recipe.optimize:
        raise RecipeError("the recipe has no [[optimize]] steps; add one, or go on with export")
    baseline = require_stage(recipe.run_folder / "train", "make train")
    root, parent = recipe.run_folder / "optimize", baseline
    names = model_names(recipe.optimize)
    for name, step in zip(names, recipe.optimize, strict=True):
        folder, source = root / name, parent

        def work(scratch: Path, step: Step = step, source: Path = source) -> None:
            context = Context(recipe, read_pools(recipe, "train"), read_pools(recipe, "val"), baseline, device())
            checkpoint = load_checkpoint(source)
            require_contract(checkpoint.artifact, recipe.contract(), "make train")
            check_loss(recipe.train.loss, recipe.contract(), checkpoint.spec)
            result = STEPS[step.method](checkpoint, step, context)
            save_checkpoint(scratch, result.net, result.spec, checkpoint.contract)
            write_file(scratch / "report.json", json.dumps(result.report, indent=1) + "\n")
            if result.history:
                write_history(scratch, result.history)
            (root / KEY_FILE).unlink(missing_ok=True)  # no export while this step is new and those after it are old

        run_stage(folder, step_key(recipe, name, step, parent, baseline), work, force=force)
        parent = folder
    _write_changed(root / MODELS_FILE, json.dumps({"models": names}) + "\n")
    files = [MODELS_FILE, *(f"{name}/{MANIFEST}" for name in names)]
    entry = optimized_key(recipe).to_json() | {"files": {file: sha256(root / file) for file in files}}
    _write_changed(root / KEY_FILE, json.dumps(entry, indent=1) + "\n")
    say(f"optimize: {' -> '.join(['float', *names])}")


def _write_changed(path: Path, text: str) -> None:
    """Write a file unless it says so already: a run that does nothing touches nothing."""
    if not path.is_file() or path.read_text() != text:
        write_file(path, text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = stage_parser("python -m optimize", "Prune, distill and quantize the checkpoint of a recipe.")

    def command(arguments: argparse.Namespace) -> int:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RecipeError("optimize runs in one process, not under torchrun; run: make optimize")
        recipe = recipe_of(arguments)
        with locked(recipe.run_folder):
            optimize(recipe, force=arguments.force)
        return 0

    return run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
