"""C15: how much faster a network is without the 20 % of channels with the smallest L1 norm, measured here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from benchmarks.claims.costs import BODY, FACE
from benchmarks.claims.rows import Row, gain_row
from benchmarks.claims.verdict import gain
from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from edgekp.preprocess import InputSpec
from edgekp.recipe import Model, Recipe
from eval.latency import time_in_fresh_process
from optimize.channel_groups import Dependencies, narrowed, rounded
from optimize.importance import MAGNITUDES
from train.models import build, spec_of
from train.models.channels import read_channels
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.cost import count_macs

SHARE = 0.2  # of every group of channels
CLAIMED = 0.8  # 1.8 x faster
REPETITIONS = 5  # fresh processes
CALLS = 100
DENSE = replace(BODY, model=Model("hrnet_lite", options={"width": 32}))
RESNET = replace(BODY, model=Model("resnet", neck="fpn"), input=InputSpec((128, 128)))
NETWORKS = {"HRNet-lite (dense 3 x 3, 128 x 128)": DENSE, "MobileFaceNet (112 x 112)": FACE,
            "ResNet-18 with FPN (128 x 128)": RESNET}


@dataclass(frozen=True)
class Timed:
    """How much faster a smaller network is, as a share, once a repetition; and the share of MACs that it lacks."""

    faster: list[float]
    macs_fewer: float


def speed_of_pruned_networks(repetitions: int = REPETITIONS) -> list[Row]:
    """As the claim says it, to a single channel, and with the nearest multiple of what the processor runs fast."""
    multiples = (1, target_named("cpu").channel_multiple)
    return [_row(name, multiple, timed) for name, recipe in NETWORKS.items()
            for multiple, timed in zip(multiples, compare(recipe, multiples, repetitions), strict=True)]


def _row(name: str, multiple: int, timed: Timed) -> Row:
    counts = "" if multiple == 1 else f", channels in multiples of {multiple}"
    about = f"{name} without {SHARE:.0%} of its channels{counts}, ONNX Runtime on one core"
    note = f"{timed.macs_fewer:.0%} fewer MACs, which alone would give {1 / (1 - timed.macs_fewer) - 1:+.0%}"
    return gain_row("C15", about, gain(timed.faster), "more pictures a second, as a share", CLAIMED,
                    macs_fewer=timed.macs_fewer, note=note)


def compare(recipe: Recipe, multiples: tuple[int, ...], repetitions: int) -> list[Timed]:
    """Weights that were never trained: the time of a call knows no weights."""
    torch.manual_seed(0)
    net, hw = build(spec_of(recipe)).eval(), recipe.input.input_hw
    found = {name: MAGNITUDES["l1"]()(group) for name, group in Dependencies(net, hw).by_name.items()}
    scores = {name: worth for name, worth in found.items() if worth is not None}
    smaller = [narrowed(net, hw, scores, {name: rounded((1 - SHARE) * len(worth), len(worth), multiple)
                                          for name, worth in scores.items()}) for multiple in multiples]
    with TemporaryDirectory() as scratch:
        folders = [_exported(Path(scratch), str(i), recipe, each) for i, each in enumerate([net, *smaller])]
        faster = [_faster(folders, seed) for seed in range(repetitions)]
    return [Timed(list(gains), 1 - count_macs(each, hw) / count_macs(net, hw))
            for each, gains in zip(smaller, zip(*faster, strict=True), strict=True)]


def _faster(folders: list[Path], seed: int) -> list[float]:
    """Than the first: by the median ratio of calls in turn, on the clock that tells how much work a call is."""
    times = time_in_fresh_process(folders, seed, rounds=CALLS)
    taken = times.cpu_ms if times.clock == "thread_cpu" else times.wall_ms
    return [float(np.median(taken[0] / other)) - 1 for other in taken[1:]]


def _exported(folder: Path, name: str, recipe: Recipe, net: nn.Module) -> Path:
    checkpoint, artifact = folder / f"{name}-checkpoint", folder / name
    checkpoint.mkdir()
    spec = replace(spec_of(recipe), channels=read_channels(net))
    save_checkpoint(checkpoint, net, spec, recipe.contract())
    export_checkpoint(load_checkpoint(checkpoint), artifact, target_named("cpu"), recipe.export.opset)
    return artifact
