"""Necks: from the maps of a backbone to one map that is fine enough for keypoints. Know no backbone by name."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.layers import ConvBN
from train.models.parts import Neck
from train.models.upsampling import DeconvBN, bilinear, doubling_named


class FPN(Neck):
    """All maps to one at the finest stride, merged top-down (Lin et al., CVPR 2017).

    Only the finest level is built up, as keypoints of one crop have one size: those of the coarser levels would feed
    nothing. There is no activation before a map is added, as in the paper.

    Args:
        channels: of the one map; the paper's 256 cost as much as ResNet-18 itself.
        upsample: how a coarser sum reaches the next finer map.
    """

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], *, channels: int = 128,
                 upsample: Literal["bilinear", "transposed"] = "bilinear") -> None:
        super().__init__()
        _check_channels(channels)
        doubling_named(upsample, "model.neck_options.upsample")
        if len(strides) == 1 or any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise RecipeError(f"model.neck: 'fpn' merges maps of which each has twice the stride of the one before, "
                              f"but the backbone gives strides {list(strides)}; choose another backbone or neck")
        self.widths, self.strides = (channels,), strides[:1]
        self.laterals = nn.ModuleList(ConvBN(width, channels, 1, activation=None) for width in widths)
        self.ups = nn.ModuleList(
            bilinear() if upsample == "bilinear" else DeconvBN(channels, channels, activation=None)
            for _ in strides[1:])
        self.smooth = ConvBN(channels, channels, 3)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        *finer, merged = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for up, fine in zip(reversed(self.ups), reversed(finer), strict=True):
            merged = fine + up(merged)
        return (self.smooth(merged),)


class Deconv(Neck):
    """The coarsest map, doubled until it is fine enough (SimpleBaseline, Xiao et al., ECCV 2018); others are not read.

    Args:
        channels: of every doubled map.
        stride: of the last one, input pixels per cell.
        upsample: transposed convolutions as in the paper, or interpolation before 3 x 3 convolutions.
    """

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], *, channels: int = 256, stride: int = 4,
                 upsample: Literal["transposed", "bilinear"] = "transposed") -> None:
        super().__init__()
        _check_channels(channels)
        double = doubling_named(upsample, "model.neck_options.upsample")
        known = [strides[-1] >> times for times in range(strides[-1].bit_length() - 1, 0, -1)]
        if stride not in known:
            raise RecipeError(f"model.neck_options.stride: {stride}, but 'deconv' doubles a map of stride "
                              f"{strides[-1]} to one of {', '.join(map(str, known)) or 'none'}")
        self.widths, self.strides = (channels,), (stride,)
        doublings = (strides[-1] // stride).bit_length() - 1
        self.ups = nn.Sequential(*(double(widths[-1] if i == 0 else channels, channels) for i in range(doublings)))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.ups(features[-1]),)


def _check_channels(channels: int) -> None:
    if channels < 1:
        raise RecipeError(f"model.neck_options.channels: {channels}, expected 1 or more")
