"""U-Net: encoder, decoder, and skips that carry the detail which coarse maps lost (Ronneberger et al., MICCAI 2015)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.layers import ConvBN
from train.models.parts import Backbone
from train.models.upsampling import doubling_named

DEEPEST = 5  # halvings; the paper has 4


class UNet(Backbone):
    """(N, 3, h, w) to one map of ``width * stride`` channels at ``stride``.

    Convolutions are padded, so that the map covers the whole input. The encoder starts at full resolution as in the
    paper, which makes it the dearest backbone; a decoder that stops at stride 4 saves a third of the MACs.

    Args:
        width: channels at full resolution; each halving doubles them.
        depth: halvings.
        stride: at which the decoder stops, input pixels per cell.
        upsample: interpolation before a 3 x 3 convolution, or a transposed one.
    """

    def __init__(self, width: int = 64, depth: int = 4, stride: int = 4,
                 upsample: Literal["bilinear", "transposed"] = "bilinear") -> None:
        super().__init__()
        if width < 8 or width % 8 or stride not in (1, 2, 4) or not stride.bit_length() <= depth <= DEEPEST:
            raise RecipeError(f"model.options: width {width}, expected a multiple of 8; stride {stride}, expected 1, "
                              f"2 or 4; depth {depth}, expected more halvings than the stride has, {DEEPEST} at most")
        double = doubling_named(upsample, "model.options.upsample")
        self.widths, self.strides, self.coarsest_stride = (width * stride,), (stride,), 2**depth
        widths = [width << level for level in range(depth + 1)]
        merged = widths[stride.bit_length() - 1:depth]  # of the levels that the decoder comes back to
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(
            _two_convs(3 if level == 0 else widths[level - 1], widths[level]) for level in range(depth + 1))
        self.ups = nn.ModuleList(double(2 * channels, channels) for channels in merged)
        self.decoder = nn.ModuleList(_two_convs(2 * channels, channels) for channels in merged)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = [self.encoder[0](image)]
        for level in self.encoder[1:]:
            maps.append(level(self.pool(maps[-1])))
        x, skips = maps[-1], maps[-1 - len(self.ups):-1]
        for up, merge, skip in zip(reversed(self.ups), reversed(self.decoder), reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return (x,)


def _two_convs(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(ConvBN(channels_in, channels_out, 3), ConvBN(channels_out, channels_out, 3))
