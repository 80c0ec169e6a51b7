"""``python -m train``: dataset to checkpoint, in two stages: the drawn data, if the recipe wants it, and training."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from edgekp.cli import recipe_of, run, stage_parser
from edgekp.recipe import Recipe, SecondTask
from edgekp.run_lock import locked
from edgekp.stage import Key, run_stage, say
from train.curves import write_history
from train.dataset import input_digests, read_pools
from train.distributed import launched_world, leave, run_stage_together
from train.drawn import write_dataset
from train.foreign_weights import begin_with, digest_of
from train.history import Entry
from train.loader import monitor_of
from train.loop import fit
from train.losses import check_loss
from train.models import ModelSpec, build, spec_of
from train.models.checkpoint import device, save_checkpoint
from train.models.multitask import build_together
from train.multitask import fit_together
from train.resume import saved_history
from train.task import Task
from train.untaught import say_untaught
from train.visibility import require_both_kinds
from train.world import World

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
                "model": recipe.model, "train": replace(recipe.train, workers=0, tensorboard=False),
                "augment": recipe.augment}
    inputs, *of_second = recipe.for_each_task(lambda task: input_digests(task, "train"))
    for digests in of_second:
        inputs |= {f"second {name}": digest for name, digest in digests.items()}
    if recipe.train.init:
        inputs["train.init"] = digest_of(Path(recipe.train.init))
    if recipe.second:
        settings["second"] = replace(recipe.second, data=replace(recipe.second.data, hint=""))
    return Key("train", VERSION, settings, inputs)


def spec_that_fits(recipe: Recipe) -> ModelSpec:
    """``spec_of``, refused where the loss does not fit the contract and the head."""
    spec = spec_of(recipe)
    check_loss(recipe.train.loss, recipe.contract(), spec)
    return spec


def task_of(recipe: Recipe) -> Task:
    """What a recipe trains, with its data read."""
    train_pools, val_pools = read_pools(recipe, "train"), read_pools(recipe, "val")
    if recipe.model.visibility:
        require_both_kinds(instance for pool in train_pools for instance in pool.instances)
    say_untaught(train_pools, recipe.contract().skeleton)
    return Task("train", recipe.contract(), train_pools, val_pools, recipe.train, recipe.augment,
                monitor=monitor_of(recipe.contract(), recipe.eval.metric))


def learn(second: SecondTask | None, tasks: list[Task], specs: list[ModelSpec],
          world: World) -> tuple[Sequence[nn.Module], list[Entry]]:
    """The trained network of each task, and the history of the run."""
    if second:
        together = build_together(specs)
        if tasks[0].settings.init:
            begin_with(together, Path(tasks[0].settings.init))
        return fit_together(together, tasks[0], replace(tasks[1], label=second.name), second.share, device(), world)
    net = build(specs[0])
    if tasks[0].settings.init:
        begin_with(net, Path(tasks[0].settings.init))
    net, history = fit(net, tasks[0], device(), world)
    return [net], history


def is_unfinished(state: Path, key: Key, folder: Path) -> bool:
    """Whether ``--force`` began the run anew beside its result, which is up to date, and did not come to its end."""
    saved = saved_history(state, key.to_json())
    return saved is not None and not key.reasons_to_run(folder) and (
        json.dumps(saved) != json.dumps(json.loads((folder / "history.json").read_bytes())))


def train(recipe: Recipe, specs: list[ModelSpec], world: World, *, force: bool, resume: bool) -> None:
    """Train the float baseline of a recipe into its run folder; that of a second task into a folder therein."""
    if world.is_first:
        recipe.for_each_task(draw_data)
    world.told(None)  # the others wait until the data is drawn
    key = train_key(recipe)
    folder, state = recipe.run_folder / "train", recipe.run_folder / "train.partial.safetensors"
    unfinished = world.is_first and is_unfinished(state, key, folder)
    if unfinished and not force:
        say(f"train: a run that --force began is unfinished; --resume goes on with it ({state})")

    def work(scratch: Path | None) -> None:
        tasks = recipe.for_each_task(task_of)
        if state.exists() and not resume:
            say(f"train: an unfinished run is dropped; --resume would have continued it ({state})")
        torch.manual_seed(recipe.train.seed)
        tasks[0] = replace(tasks[0], state=state, resume=world.told(resume and state.exists()), identity=key.to_json(),
                           tensorboard=recipe.run_folder / "tensorboard" if recipe.train.tensorboard else None)
        nets, history = learn(recipe.second, tasks, specs, world)
        if scratch:
            folders = [scratch, scratch / recipe.second.name] if recipe.second else [scratch]
            for place, net, spec, task in zip(folders, nets, specs, tasks, strict=True):
                place.mkdir(exist_ok=True)
                save_checkpoint(place, net, spec, task.contract, world.size)
            write_history(scratch, history)

    has_run = run_stage_together(world, folder, key, work, force=force or (resume and unfinished))
    left = world.is_first and not unfinished and saved_history(state, key.to_json()) is not None
    if has_run or left:  # by a kill after the result was there
        for partial in (state, state.with_suffix(".csv")):
            partial.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = stage_parser("python -m train", "Train a float keypoint model from a recipe.")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run of the same recipe")

    def command(arguments: argparse.Namespace) -> int:
        with launched_world() as world:
            recipe = recipe_of(arguments)
            specs = recipe.for_each_task(spec_that_fits)  # a misfit is refused before anything is written
            with locked(recipe.run_folder) if world.is_first else nullcontext():  # one lock for all processes
                train(recipe, specs, world, force=arguments.force, resume=arguments.resume)
        return 0

    return run(command, parser, argv)


if __name__ == "__main__":
    leave(main())
