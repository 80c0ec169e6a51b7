"""Attention inside a block: a map weighted by gates in 0..1 that are computed from it. Knows no backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError, unknown_name

REDUCTION = 16  # of the hidden channels, in both papers
FEWEST_HIDDEN = 8  # a sixteenth of a narrow map would be one or two
SPATIAL_KERNEL = 7  # the better of 3 and 7 in CBAM's table 3


class SE(nn.Module):
    """Squeeze and excitation: a gate per channel from the means of all (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = _bottleneck(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


class CBAM(nn.Module):
    """A gate per channel from means and maxima, then one per cell (Woo et al., ECCV 2018, equations 2 and 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = _bottleneck(channels)
        self.where = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        dims = (2, 3)
        x = x * torch.sigmoid(self.gate(x.mean(dims, keepdim=True)) + self.gate(x.amax(dims, keepdim=True)))
        return x * torch.sigmoid(self.where(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


ATTENTION: dict[str, type[nn.Module]] = {"none": nn.Identity, "se": SE, "cbam": CBAM}


def attention_named(name: str, channels: int) -> nn.Module:
    """The attention that a block of so many channels ends with, before its shortcut is added.

    Raises:
        RecipeError: No attention has that name.
    """
    if name not in ATTENTION:
        raise RecipeError(f"model.options: {unknown_name('attention', name, list(ATTENTION))}")
    return ATTENTION[name](channels)


def _bottleneck(channels: int) -> nn.Sequential:
    """Two linear layers on a (N, C, 1, 1) summary, as 1 x 1 convolutions so that they are counted like others."""
    hidden = max(channels // REDUCTION, FEWEST_HIDDEN)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
