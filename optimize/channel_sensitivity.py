"""What it costs to prune each group of channels alone, measured on validation data. Knows no goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgekp.errors import RecipeError
from edgekp.stage import say
from optimize.channel_groups import Scores, narrowed, rounded
from optimize.step import Context
from train.dataset import Pool
from train.loader import measure, monitor_of
from train.models.checkpoint import Checkpoint
from train.world import World

SHARES = (0.25, 0.5)  # of a group's channels
SAMPLES = 128  # of the validation sets, evenly spread: a look at HRNet-lite takes 4 s of one core, 32 looks two minutes


@dataclass(frozen=True)
class Look:
    """One group pruned alone.

    Attributes:
        drop: by how much the metric got worse; negative where it got better.
    """

    group: str
    channels: int
    kept: int
    metrics: dict[str, float]
    drop: float


@dataclass(frozen=True)
class Scan:
    """All looks, and what they are compared with."""

    monitor: str
    samples: int
    unpruned: dict[str, float]
    looks: list[Look]

    def hurts(self) -> dict[str, float]:
        """By group: the drop per share of its channels, averaged over its looks; 0 where pruning did no harm."""
        by_group: dict[str, list[float]] = {}
        for look in self.looks:
            by_group.setdefault(look.group, []).append(max(look.drop, 0.0) / (1 - look.kept / look.channels))
        return {group: float(np.mean(drops)) for group, drops in by_group.items()}

    def weighted(self, scores: Scores) -> Scores:
        """Scores of each group times 1 + its hurt over the mean hurt, so that groups that hurt keep more channels."""
        hurts = self.hurts()
        mean = float(np.mean(list(hurts.values()))) if hurts else 0.0
        return {name: worth * (1 + (hurts.get(name, 0.0) / mean if mean else 0.0)) for name, worth in scores.items()}

    def report(self) -> dict[str, Any]:
        return {"metric": self.monitor, "samples": self.samples, "unpruned": self.unpruned, "hurt": self.hurts(),
                "looks": [vars(look) for look in self.looks]}


def scan(checkpoint: Checkpoint, scores: Scores, multiple: int, context: Context) -> Scan:
    """Prune each group alone to about each of ``SHARES``, without training, and measure.

    Raises:
        RecipeError: There is no validation data.
    """
    pools = spread(context.val, SAMPLES)
    if not any(pool.size for pool in pools):
        raise RecipeError("optimize.prune.sensitivity: the recipe has no validation data; add data.val or leave it out")
    monitor = monitor_of(checkpoint.contract, context.recipe.eval.metric)
    name, sign = monitor.name.removeprefix("val_"), 1 if monitor.higher_is_better else -1

    def metrics_of(net: torch.nn.Module) -> dict[str, float]:
        return measure(net.to(context.device), pools, checkpoint.contract, context.device, World())

    unpruned, looks = metrics_of(narrowed(checkpoint.net, checkpoint.spec.input_hw, scores, {})), []
    for group, worth in scores.items():
        for kept in _widths(len(worth), multiple):
            found = metrics_of(narrowed(checkpoint.net, checkpoint.spec.input_hw, scores, {group: kept}))
            looks.append(Look(group, len(worth), kept, found, sign * (unpruned[name] - found[name])))
        say(f"optimize: sensitivity of {group}: " + (", ".join(
            f"{look.drop:+.4f} {name} with {look.kept} of {look.channels} channels"
            for look in looks if look.group == group) or "no smaller width"))
    return Scan(name, sum(pool.size for pool in pools), unpruned, looks)


def spread(pools: list[Pool], count: int) -> list[Pool]:
    """Up to ``count`` samples evenly over all pools."""
    share = min(1.0, count / max(1, sum(pool.size for pool in pools)))
    return [_spread(pool, round(share * pool.size)) for pool in pools]


def _spread(pool: Pool, count: int) -> Pool:
    rows = np.linspace(0, pool.size - 1, count).round().astype(int)
    if pool.scenes is not None:
        return Pool(pool.instances, scenes=tuple(pool.scenes[row] for row in rows))
    return Pool(tuple(pool.instances[row] for row in rows))


def _widths(channels: int, multiple: int) -> list[int]:
    """Different widths next to those that ``SHARES`` leave, from wide to narrow; none where all channels must stay."""
    near = {rounded((1 - share) * channels, channels, multiple) for share in SHARES}
    return sorted(near - {channels}, reverse=True)
