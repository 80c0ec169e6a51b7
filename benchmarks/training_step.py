"""What loader and targets cost: a training step from image files on, against the same step on a batch that is ready.

Both in CPU time of one process that does everything: on a machine whose cores are all training, that is what counts.
``share`` is the part of the whole step that goes to files, views and targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch

from edgekp.coco import read_coco
from edgekp.data_folder import data_root
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, Drawn, Model, Recipe
from edgekp.recipe_train import Train
from edgekp.skeletons import skeleton_named
from train.dataset import Pool
from train.drawn import write_dataset
from train.lessons import Lessons
from train.models import build, spec_of
from train.precision import precision_for
from train.stepper import Lesson, Stepper
from train.task import Task
from train.world import World

IMAGES, ROUNDS = 192, 3
CPU = torch.device("cpu")
TRAIN = Train(epochs=1, batch=32, workers=0)
PEOPLE = Recipe("hrnet_lite people 128x96", Data("coco17", drawn=Drawn("people", IMAGES, 1)), InputSpec((128, 96)),
                CodecChoice("heatmap"), Model("hrnet_lite", options={"width": 24}), TRAIN)
FACES = Recipe("mobilefacenet faces 112x112", Data("ibug68", drawn=Drawn("faces", IMAGES, 1)), InputSpec((112, 112)),
               CodecChoice("regression"), Model("mobilefacenet"), replace(TRAIN, loss="wing"))
PHOTOGRAPHS = {"faces": "face_ibug68/train.json"}  # in place of drawn ones, where they are


def records() -> list[dict[str, Any]]:
    """One record a network: drawn people, and photographs of faces where there are any."""
    torch.set_num_threads(1)
    return [_record(recipe) for recipe in (PEOPLE, FACES)]


def _record(recipe: Recipe) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        instances = read_coco(_labels(recipe, Path(folder)), skeleton_named(recipe.data.skeleton)).instances[:IMAGES]
        task = Task("bench", recipe.contract(), [Pool(instances)], [], recipe.train, recipe.augment)
        whole_us, bare_us = _times_us(task, _stepper(recipe))
    return {"name": f"training step {recipe.name}", "ours_us": whole_us, "alternative": "on batches that are ready",
            "alternative_us": bare_us, "ratio": bare_us / whole_us, "share": 1 - bare_us / whole_us,
            "images_per_s": 1e6 / whole_us}


def _labels(recipe: Recipe, folder: Path) -> Path:
    """Photographs, or pictures drawn into ``folder``."""
    assert recipe.data.drawn
    photographs = data_root() / PHOTOGRAPHS.get(recipe.data.drawn.subject, "")
    if photographs.is_file():
        return photographs
    write_dataset(folder, recipe.data.drawn)
    return folder / "train.json"


def _times_us(task: Task, stepper: Stepper) -> tuple[float, float]:
    """CPU time of an image, microseconds: of the whole step and of the bare one; the best of the rounds."""
    lessons = Lessons(task, stepper.precision, CPU, World())
    ready = list(islice(lessons.from_step(0), 2))
    whole: list[float] = []
    bare: list[float] = []
    for _ in range(ROUNDS):  # in turn, so that a busy machine is as busy for both
        for times, steps in ((whole, lessons.from_step(0)), (bare, _again(ready, lessons.steps_per_epoch))):
            start = process_time()
            for step in steps:
                stepper.step(step, 1e-4)
            times.append((process_time() - start) / (lessons.steps_per_epoch * lessons.images_per_step) * 1e6)
    return min(whole), min(bare)


def _again(ready: list[list[Lesson]], steps: int) -> Iterator[list[Lesson]]:
    return (ready[step % len(ready)] for step in range(steps))


def _stepper(recipe: Recipe) -> Stepper:
    net = build(spec_of(recipe)).train()
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters())
    return Stepper(net, recipe.train, optimizer, precision_for(recipe.train, CPU), CPU, World())
