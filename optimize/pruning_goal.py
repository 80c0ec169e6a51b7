"""What pruning is to shrink, and the widths that come next to it. Knows no importance and trains nothing.

Costs are shares of the unpruned network's: of its multiply-accumulates, its parameters, or its time on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from edgekp.artifact import Artifact
from edgekp.errors import RecipeError
from edgekp.recipe import Recipe
from edgekp.recipe_steps import Prune
from eval.latency import machine, time_in_fresh_process
from optimize.channel_groups import Scores, narrowed, widths_at
from optimize.judge import Judge
from train.models import ModelSpec
from train.models.channels import Channels, read_channels
from train.models.checkpoint import Checkpoint
from train.models.cost import count_macs, count_parameters

SEARCH_STEPS = 8  # halvings of the share's interval: 0.004 of the channels, below one channel of 128
NEAR = 0.01  # closer to the goal than this, the search is over
ALLOWED = 0.1  # from the goal; the smallest group of eight channels costs up to a tenth
TIMED_SECONDS = 12.0


@dataclass(frozen=True)
class Cost:
    """A share of the unpruned network's cost, and how it was measured, where there is more to say."""

    share: float
    details: dict[str, Any] = field(default_factory=dict)


class Meter(Protocol):
    """Measures what a network costs, as a share of what the unpruned one costs."""

    def measure(self, net: nn.Module, spec: ModelSpec) -> Cost:
        """The cost of one network."""


class Counter:
    """Counts MACs or parameters."""

    def __init__(self, count: Callable[[nn.Module, ModelSpec], int], unpruned: Checkpoint) -> None:
        self.count, self.before = count, count(unpruned.net, unpruned.spec)

    def measure(self, net: nn.Module, spec: ModelSpec) -> Cost:
        return Cost(self.count(net, spec) / self.before)


class Stopwatch:
    """Times one call of the exported network, in turn with the unpruned one in a fresh process.

    Each round of the two gives one ratio; the median of them counts. Where the runtime computes in the calling thread,
    its own time is taken, which other programs disturb least.
    """

    def __init__(self, unpruned: Checkpoint, recipe: Recipe, target: str, folder: Path) -> None:
        self.contract, self.judge = unpruned.contract, Judge(recipe, folder, target)
        self.unpruned = self.judge.export("unpruned", unpruned.net, unpruned.spec, self.contract)
        self.asked = 0

    def measure(self, net: nn.Module, spec: ModelSpec) -> Cost:
        self.asked += 1
        artifact = self.judge.export(f"narrowed-{self.asked}", net, spec, self.contract)
        found = compared(self.unpruned, artifact, seed=self.asked)
        return Cost(found["ratio"], found)


def compared(first: Artifact, second: Artifact, seed: int) -> dict[str, Any]:
    """Median times of two models, and the median and quartiles of the second's share of the first's time."""
    times = time_in_fresh_process([first.folder, second.folder], seed, seconds=TIMED_SECONDS)
    taken = times.cpu_ms if times.clock == "thread_cpu" else times.wall_ms
    low, middle, high = np.percentile(taken[1] / taken[0], [25, 50, 75])
    return {"ratio": round(float(middle), 4), "quartiles": [round(float(low), 4), round(float(high), 4)],
            "before_ms": round(float(np.median(taken[0])), 4), "after_ms": round(float(np.median(taken[1])), 4),
            "rounds": taken.shape[1], "clock": times.clock, "runtime": times.runtime, "machine": machine()}


def meter_for(settings: Prune, unpruned: Checkpoint, recipe: Recipe, folder: Path) -> Meter:
    """What measures the goal of the settings; ``folder`` is for what it writes."""
    if settings.goal == "latency":
        return Stopwatch(unpruned, recipe, settings.target, folder)
    if settings.goal == "parameters":
        return Counter(lambda net, _: count_parameters(net), unpruned)
    return Counter(lambda net, spec: count_macs(net, spec.input_hw), unpruned)


@dataclass(frozen=True)
class Aim:
    """What is to shrink, in which steps, and how the network was before.

    Attributes:
        what: the goal's name, for people.
        multiple: what channel counts stay multiples of.
    """

    meter: Meter
    what: str
    multiple: int
    unpruned: ModelSpec


@dataclass(frozen=True)
class Found:
    """A network, how to rebuild it, and what is left of the cost."""

    net: nn.Module
    spec: ModelSpec
    cost: Cost


def search(current: Checkpoint, scores: Scores, wanted: float, aim: Aim) -> Found:
    """Bisect the share of channels below the bar for the network whose cost comes next to the share ``wanted``.

    Raises:
        RecipeError: No network but the unpruned one is within ``ALLOWED``; the message says which costs there are.
    """
    tried: dict[tuple[int, ...], Found] = {}
    low, high = 0.0, 1.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        widths = widths_at(scores, middle, aim.multiple)
        key = tuple(widths.values())
        if key not in tried:
            net = narrowed(current.net, current.spec.input_hw, scores, widths)
            spec = replace(current.spec, channels=current.spec.channels | _changed(current.net, net))
            tried[key] = Found(net, spec, aim.meter.measure(net, spec))
        left = tried[key].cost.share
        if abs(left - wanted) < NEAR:
            break
        low, high = (low, middle) if left < wanted else (middle, high)
    best = min(tried.values(), key=lambda found: abs(found.cost.share - wanted))
    if best.spec == aim.unpruned or abs(best.cost.share - wanted) > ALLOWED:
        smaller = [found.cost.share for found in tried.values() if found.spec != aim.unpruned]
        raise RecipeError(_unreachable(smaller, wanted, aim))
    return best


def _unreachable(shares: list[float], wanted: float, aim: Aim) -> str:
    """What was asked, and the nearest that can be had on either side."""
    nearest = {max([share for share in shares if share <= wanted], default=wanted),
               min([share for share in shares if share > wanted], default=wanted)} - {wanted}
    there_is = " and ".join(f"{1 - share:.0%}" for share in sorted(nearest, reverse=True)) or "none"
    return (f"optimize.prune: {1 - wanted:.0%} less {aim.what} cannot be reached with channels in multiples of "
            f"{aim.multiple}; next to it there is {there_is}: ask for that, or change round_to")


def _changed(old: nn.Module, new: nn.Module) -> Channels:
    """Widths of the layers that differ from the old network's."""
    before = read_channels(old)
    return {name: widths for name, widths in read_channels(new).items() if before[name] != widths}
