"""What a student learns of its teacher beyond its outputs as targets: features, softened bins, bounded coordinates.

Knows no recipe and no checkpoint: ``train.objective`` mixes these terms, ``optimize.distill`` chooses among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from train.losses import Tensors
from train.losses.bins import divergence


class Pupil(nn.Module):
    """A network that, while it trains, also says some of its features in its teacher's widths, after its outputs.

    It is trained in the network's place: its adapters are learnt, averaged, resumed and shared among processes like
    any layer. In evaluation mode it says what ``net`` says, and ``net`` alone is kept in the end.

    Args:
        features: names of modules of ``net``.
        widths: channels of each in ``net`` and in the teacher; where they are equal, nothing is adapted (DWPose).
    """

    def __init__(self, net: nn.Module, features: Sequence[str], widths: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.net, self.features = net, tuple(features)
        self.adapters = nn.ModuleList(nn.Identity() if mine == its else nn.Conv2d(mine, its, 1)
                                      for mine, its in widths)

    def forward(self, image: Tensor) -> Tensors:
        if not self.training:
            outputs: Tensors = self.net(image)
            return outputs
        outputs, features = with_features(self.net, self.features, image)
        return (*outputs, *(adapt(feature) for adapt, feature in zip(self.adapters, features, strict=True)))


def with_features(net: nn.Module, names: Sequence[str], image: Tensor) -> tuple[Tensors, Tensors]:
    """The outputs of a network, and what the named modules said on the way; of several maps a module's last one."""
    with _listening(net, names) as heard:
        outputs: Tensors = net(image)
    return outputs, tuple(heard[name] for name in names)


def features_apart(mine: Tensors, its: Tensors) -> Tensor:
    """(N,) squared error of a student's features, as a fraction of the teacher's own squares; the mean over features.

    1 is what silence would get, whatever the widths and scales. Maps of two sizes are compared on the coarser grid.
    """
    return torch.stack([_apart(*_on_one_grid(one.float(), other.float()))
                        for one, other in zip(mine, its, strict=True)]).mean(0)


def softened(outputs: Tensors, taught: Tensors, weight: Tensor, *, temperature: float, sharpness: float) -> Tensor:
    """Divergence of bins softened by a temperature, summed over the axes (Hinton et al., 2015; DWPose, 2023).

    Times the temperature squared, so that its gradient is as large as without one.

    Args:
        sharpness: what makes the bins logits, as in the loss of the labels.
    """
    scale = sharpness / temperature
    per_axis = [divergence(scale * mine, scale * its) for mine, its in zip(outputs, taught, strict=True)]
    return temperature**2 * torch.stack(per_axis).sum(0) * weight


def trusted(student_error: Tensor, teacher_error: Tensor, weight: Tensor) -> Tensor:
    """(N, K) 1 where the teacher is nearer to the label than the student is, or where there is no label; otherwise 0.

    The bound of Chen et al. (NeurIPS 2017) for regression: a teacher's number has no upper limit on how wrong it is.
    """
    return ((teacher_error < student_error) | (weight == 0)).float()


@contextmanager
def _listening(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the named modules say within the block; no hook outlives it, so that a network can be copied and saved."""
    heard: dict[str, Tensor] = {}
    handles = [net.get_submodule(name).register_forward_hook(partial(_keep, heard, name)) for name in names]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _keep(heard: dict[str, Tensor], name: str, _module: nn.Module, _inputs: Any, said: Any) -> None:
    heard[name] = said[-1] if isinstance(said, (tuple, list)) else said


def _apart(mine: Tensor, its: Tensor) -> Tensor:
    """(N,) of maps (N, C, h, w)."""
    silence = its.square().mean((1, 2, 3)).clamp_min(torch.finfo(its.dtype).tiny)
    return (mine - its).square().mean((1, 2, 3)) / silence


def _on_one_grid(mine: Tensor, its: Tensor) -> tuple[Tensor, Tensor]:
    coarser = (min(mine.shape[2], its.shape[2]), min(mine.shape[3], its.shape[3]))
    return adaptive_avg_pool2d(mine, coarser), adaptive_avg_pool2d(its, coarser)
