"""The averaged network beside the one that learns: every average is a function of the steps made, so it can resume."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgekp.recipe_train import Train
from train.world import World


class Average:
    """Exponential moving average of weights and batch-norm statistics; it follows fast while it is young.

    With ``decay`` 0 it is the last weights.

    Attributes:
        net: the averaged network, frozen, in evaluation mode.
        borrows_statistics: whether batch norm needs statistics of its own before the network can be used.
    """

    borrows_statistics = False

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay

    def after_step(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step ``step``, counted from 0."""
        _move(self.net, net, 1 - min(self.decay, (1 + step) / (10 + step)))

    def after_epoch(self, net: nn.Module, epoch: int) -> None:
        """Take in the weights after epoch ``epoch``, counted from 1."""


class StochasticWeightAverage(Average):
    """Plain mean of the weights at the end of each epoch from ``first_epoch`` on (Izmailov et al., UAI 2018).

    Before that it is the last epoch's weights. Its batch-norm statistics are not a mean, but measured anew.
    """

    borrows_statistics = True

    def __init__(self, net: nn.Module, first_epoch: int) -> None:
        super().__init__(net, decay=0.0)
        self.first_epoch = first_epoch

    def after_step(self, net: nn.Module, step: int) -> None:
        """Nothing: it looks at the ends of epochs only."""

    def after_epoch(self, net: nn.Module, epoch: int) -> None:
        _move(self.net, net, 1 / (1 + max(0, epoch - self.first_epoch)))


def average_of(net: nn.Module, settings: Train) -> Average:
    """The average that a recipe asks for."""
    if settings.average == "swa":
        return StochasticWeightAverage(net, first_averaged_epoch(settings))
    return Average(net, settings.ema_decay if settings.average == "ema" else 0.0)


def first_averaged_epoch(settings: Train) -> int:
    """The epoch, counted from 1, with which ``swa`` begins; it always has one epoch."""
    return settings.epochs + 1 - max(1, round(settings.swa_share * settings.epochs))


@torch.no_grad()
def measure_statistics(net: nn.Module, inputs: Iterable[tuple[Tensor, ...]], world: World) -> None:
    """Set batch norm's statistics to their mean over the steps ``inputs``, each process's share of the world's.

    The inputs of a step are those of each task.

    ``net`` is in evaluation mode before and after.
    """
    net = world.with_common_statistics(net)
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # each batch counts the same
        norm.train()
    for batches in inputs:
        net(*batches)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


@torch.no_grad()
def _move(mine: nn.Module, news: nn.Module, weight: float) -> None:
    """Move the weights and statistics of ``mine`` by ``weight`` of the way to those of ``news``; copy its counters."""
    pairs = list(zip(mine.state_dict().values(), news.state_dict().values(), strict=True))
    for old, new in pairs:
        if not old.dtype.is_floating_point:
            old.copy_(new)
    floats = [pair for pair in pairs if pair[0].dtype.is_floating_point]
    torch._foreach_lerp_([old for old, _ in floats], [new for _, new in floats], weight)
