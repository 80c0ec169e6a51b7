"""Arms become checkpoints in runs/claims, each once: averaged weights, and the raw ones that the last step left."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.claims.arms import SECOND_SHARE, Arm
from benchmarks.claims.sets import ROOT, Split
from edgekp.atomic import sha256, write_file
from edgekp.coco import read_coco
from edgekp.contract import Contract
from edgekp.recipe import Recipe
from edgekp.stage import Key, run_stage
from train.dataset import Pool
from train.history import Entry
from train.loop import fit
from train.models import build, spec_of
from train.models.checkpoint import device, save_checkpoint
from train.models.multitask import build_together
from train.multitask import fit_together
from train.task import Task

VERSION = 1
AVERAGED, RAW, SECOND = "averaged", "raw", "second"
FIRST_SEED = 1  # seed 0 served to choose sizes, epochs and measures; an answer is from others


def seeds_of(count: int) -> range:
    return range(FIRST_SEED, FIRST_SEED + count)


def folder_of(arm: str, seed: int) -> Path:
    return ROOT / f"{arm}-{seed}"


def train_arm(arm: Arm, seed: int, share: float, learnt: tuple[Split, ...]) -> bool:
    """Train one arm with one seed, unless that was done; whether it was trained now.

    Args:
        share: of the arm's epochs.
        learnt: what it learns from, a split a task.
    """
    key = Key(f"claims, {arm.name}, seed {seed}", VERSION, _settings(arm, seed, share),
              {name: sha256(split.labels) for name, split in zip(("labels", "second labels"), learnt, strict=False)})

    def work(folder: Path) -> None:
        torch.manual_seed(seed)
        started = time.process_time()
        trained, history = _trained(arm, seed, share, learnt, key.stage)
        for name, (net, recipe) in trained.items():
            (folder / name).mkdir()
            save_checkpoint(folder / name, net, spec_of(recipe), recipe.contract())
        report = {"seconds": time.process_time() - started, "history": history}
        write_file(folder / "history.json", json.dumps(report, indent=1) + "\n")

    return run_stage(folder_of(arm.name, seed), key, work)


def _settings(arm: Arm, seed: int, share: float) -> dict[str, Any]:
    recipe = arm.seeded(seed, share)
    own = {"data": arm.train_set, "skeleton": recipe.data.skeleton, "input": recipe.input, "codec": recipe.codec,
           "model": recipe.model, "train": recipe.train, "augment": recipe.augment}
    if arm.second is None:
        return own
    beside = _settings(arm.second, seed, share)
    return own | {f"second {name}": value for name, value in beside.items()} | {"share": SECOND_SHARE}


def _trained(arm: Arm, seed: int, share: float, learnt: tuple[Split, ...],
             label: str) -> tuple[dict[str, tuple[nn.Module, Recipe]], list[Entry]]:
    """Networks by the name of their folder, each with its recipe, and the history."""
    recipe = arm.seeded(seed, share)
    task = _task(recipe, learnt[0], label)
    if arm.second is None:
        net = build(spec_of(recipe))
        averaged, history = fit(net, task, device())
        return {AVERAGED: (averaged, recipe), RAW: (net.eval(), recipe)}, history
    beside = arm.second.seeded(seed, share)
    both = build_together([spec_of(recipe), spec_of(beside)])
    nets, history = fit_together(both, task, _task(beside, learnt[1], arm.second.name), SECOND_SHARE, device())
    return dict(zip((AVERAGED, SECOND), zip(nets, (recipe, beside), strict=True), strict=True)), history


def _task(recipe: Recipe, split: Split, label: str) -> Task:
    contract = recipe.contract()
    assert isinstance(contract, Contract), "no arm learns whole scenes"
    labels = read_coco(split.labels, contract.skeleton, split.pictures)
    return Task(label, contract, [Pool(labels.instances)], [], recipe.train, recipe.augment)


def train_arms(arms: Sequence[Arm], seeds: int, share: float, splits: dict[tuple[str, str], Split],
               jobs: int) -> None:
    """Train all arms with so many seeds; ``jobs`` at once, each a process with one thread.

    Seed by seed, so that a stopped run leaves whole comparisons.
    """
    orders = [(arm, seed, share, tuple(splits[each, "train"] for each in arm.train_sets))
              for seed in seeds_of(seeds) for arm in arms]
    if jobs == 1:
        for order in orders:
            train_arm(*order)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads,
                             initargs=(1,)) as pool:
        for done in [pool.submit(train_arm, *order) for order in orders]:
            done.result()
