"""Structured pruning: whole channels leave by dependency groups (DepGraph, Fang et al., CVPR 2023; torch-pruning)."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import torch
import torch_pruning as tp
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe_steps import Prune
from edgekp.stage import say
from optimize.step import Context, Result
from train.models import KeypointNet
from train.models.channels import Channels, read_channels
from train.models.checkpoint import Checkpoint
from train.models.cost import count_macs

IMPORTANCE = {
    "l1": lambda: tp.importance.MagnitudeImportance(p=1),
    "l2": lambda: tp.importance.MagnitudeImportance(p=2),
    "bn_scale": tp.importance.BNScaleImportance,
    "random": tp.importance.RandomImportance,
}
SHUFFLED = ("lite_hrnet", "shufflenet_v2")  # torch-pruning cannot follow channels through a shuffle
LARGEST_RATIO = 0.8  # no group loses more of its channels than this
SEARCH_STEPS = 7  # halvings of the ratio's interval: 0.006 of the channels, below one channel of 128


def prune(parent: Checkpoint, settings: Prune, context: Context) -> Result:
    """Remove channels until the MACs asked for are gone, then train on to recover.

    Channel counts stay multiples of ``round_to``, so the reduction reached is the nearest one and is reported.

    Raises:
        RecipeError: The network is already on the int8 grid, it shuffles its channels, or the reduction cannot be
            reached.
    """
    if parent.spec.quantization:
        raise RecipeError("optimize: 'prune' comes after 'quantize'; put quantize last")
    if parent.spec.backbone in SHUFFLED:
        raise RecipeError(f"optimize: 'prune' cannot follow the channel shuffles of backbone '{parent.spec.backbone}'; "
                          "leave it out and choose a smaller width or depth")
    before = count_macs(parent.net, parent.spec.input_hw)
    net = _search(parent, settings, before)
    after = count_macs(net, parent.spec.input_hw)
    reached = 1 - after / before
    say(f"optimize: pruned {before / 1e6:.1f} -> {after / 1e6:.1f} MMACs "
        f"({reached:.0%} fewer, {settings.macs_reduction:.0%} asked)")
    spec = replace(parent.spec, channels=parent.spec.channels | _changed(parent.net, net))
    net, history = context.fine_tune(parent, net, "recover", settings.epochs, settings.lr)
    report = {"macs_before": before, "macs_after": after, "reduction_asked": settings.macs_reduction,
              "reduction_reached": reached, "importance": settings.importance}
    return Result(net, spec, report, history)


def _search(parent: Checkpoint, settings: Prune, before: int) -> nn.Module:
    """Bisect the pruning ratio for the network whose MACs come closest to what was asked."""
    goal = before * (1 - settings.macs_reduction)
    low, high = 0.0, LARGEST_RATIO
    best: nn.Module | None = None
    best_distance = abs(before - goal)  # that of the unpruned network, which is no answer
    for _ in range(SEARCH_STEPS):
        ratio = (low + high) / 2
        candidate = _pruned(parent, settings, ratio)
        macs = count_macs(candidate, parent.spec.input_hw)
        if abs(macs - goal) < best_distance:
            best, best_distance = candidate, abs(macs - goal)
        low, high = (low, ratio) if macs < goal else (ratio, high)
    if best is None:
        raise RecipeError(f"optimize.prune: no network with channels in multiples of {settings.round_to} has about "
                          f"{settings.macs_reduction:.0%} fewer MACs; lower round_to or ask for more")
    return best


def _pruned(parent: Checkpoint, settings: Prune, ratio: float) -> nn.Module:
    """A copy with that share of channels removed, the least important of the whole network first."""
    random.seed(0)  # torch-pruning's random control draws from here, and must be the same one each time
    net = copy.deepcopy(parent.net).cpu().eval().requires_grad_(True)
    assert isinstance(net, KeypointNet)
    pruner = tp.pruner.BasePruner(
        net, torch.zeros(1, 3, *parent.spec.input_hw), IMPORTANCE[settings.importance](), global_pruning=True,
        pruning_ratio=ratio, max_pruning_ratio=LARGEST_RATIO, round_to=settings.round_to,
        ignored_layers=net.last_layers)
    pruner.step()
    return net


def _changed(old: nn.Module, new: nn.Module) -> Channels:
    """Widths of the layers that differ from the old network's."""
    before = read_channels(old)
    return {name: widths for name, widths in read_channels(new).items() if before[name] != widths}
