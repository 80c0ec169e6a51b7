"""What a training image costs before the network sees it (file, view, target), against what the network does with it.

Both in CPU time, that of worker processes included: on a machine whose cores are all training, that is what counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.functional import mse_loss

from edgekp.coco import read_coco
from edgekp.data_folder import data_root
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, Drawn, Model, Recipe
from edgekp.recipe_train import Train
from edgekp.sample import Instance
from edgekp.skeletons import COCO17
from train.dataset import Batch, Pool, StepSampler
from train.drawn import write_dataset
from train.loader import training_batches
from train.models import build, spec_of

IMAGES, BATCH, WORKERS, STEPS, ROUNDS = 640, 32, 2, 3, 3
PHOTOGRAPHS = {"COCO": "pose_coco17/train.json", "LSP": "pose_lspet14/train_coco17.json"}  # measured where they are


def records() -> list[dict[str, Any]]:
    """One record a data set: the quickstart's drawn people, and photographs."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        write_dataset(Path(folder), Drawn("people", IMAGES, 1))
        found = [_record("drawn people", Path(folder) / "train.json", (128, 96))]
    return found + [_record(name, data_root() / labels, (256, 192)) for name, labels in PHOTOGRAPHS.items()
                    if (data_root() / labels).exists()]


def _record(name: str, labels: Path, input_hw: tuple[int, int]) -> dict[str, Any]:
    recipe = Recipe(name, Data("coco17"), InputSpec(input_hw), CodecChoice("heatmap"),
                    Model("hrnet_lite", options={"width": 24}), Train(epochs=1, batch=BATCH))
    instances = read_coco(labels, COCO17, None).instances[:IMAGES]
    batch = next(_batches(recipe, instances, workers=0))
    step = _training_step(recipe)
    loader_us: list[float] = []
    step_us: list[float] = []
    for _ in range(ROUNDS):  # in turn, so that a busy machine is as busy for both
        with _cpu_time_into(loader_us, len(instances) // BATCH):
            for _ in _batches(recipe, instances, WORKERS):
                pass
        with _cpu_time_into(step_us, STEPS):
            for _ in range(STEPS):
                step(batch)
    h, w = input_hw
    return {"name": f"loader {h}x{w} {name}", "ours_us": min(loader_us),
            "alternative": "training step of hrnet_lite, for an image", "alternative_us": min(step_us),
            "ratio": min(step_us) / min(loader_us)}


def _batches(recipe: Recipe, instances: tuple[Instance, ...], workers: int) -> Iterator[Batch]:
    pools = [Pool(instances)]
    return training_batches(pools, recipe.contract(), recipe.augment, StepSampler(pools, BATCH, 1, 0), workers)


def _training_step(recipe: Recipe) -> Callable[[Batch], None]:
    """Forward, backward and update, in the precision that training chooses on this machine."""
    net = build(spec_of(recipe)).train()
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters())
    bf16 = torch.cpu._is_avx512_bf16_supported()

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            heatmaps, = net(batch.inputs.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(mse_loss(heatmaps.float(), batch.targets[0]))
        optimizer.step()

    return step


@contextmanager
def _cpu_time_into(times_us: list[float], batches: int) -> Iterator[None]:
    """Append the CPU time of an image, microseconds; a process counts once it has ended."""
    start = sum(os.times()[:4])
    yield
    times_us.append((sum(os.times()[:4]) - start) / (batches * BATCH) * 1e6)
