"""ShuffleNetV2 (Ma et al., ECCV 2018): half of the channels pass every block untouched, a shuffle mixes the halves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.layers import ConvBN
from train.models.parts import Backbone
from train.models.shuffle import channel_shuffle, halves

STEM_CHANNELS = 24
STAGES = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}  # the paper's table 5
UNITS = (4, 8, 4)  # of a stage, the one that halves the map included


class ShuffleNetV2(Backbone):
    """(N, 3, h, w) to maps at strides 4, 8, 16 and 32; the first is the stem's, after its max pooling.

    The paper's last 1 x 1 convolution, to 1024 channels or more, serves its classifier and is left out. Choose a width
    instead of pruning: a shuffle ties channels to their places, which torch-pruning cannot follow.

    Args:
        width: one of the paper's four multipliers; their channels are no multiples of one another.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if width not in STAGES:
            raise RecipeError(f"model.options.width: {width}, expected one of {', '.join(map(str, STAGES))}")
        self.widths, self.strides = (STEM_CHANNELS, *STAGES[width]), (4, 8, 16, 32)
        self.coarsest_stride = 32
        self.stem = nn.Sequential(ConvBN(3, STEM_CHANNELS, 3, 2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        for channels_in, channels, units in zip(self.widths, self.widths[1:], UNITS, strict=False):
            self.stages.append(nn.Sequential(DownUnit(channels_in, channels),
                                             *(Unit(channels) for _ in range(units - 1))))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return tuple(features)


class Unit(nn.Module):
    """One half is filtered, the other one passes (figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = _filtered(channels // 2, channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        passing, other = halves(x)
        return channel_shuffle(torch.cat([passing, self.body(other)], 1), 2)


class DownUnit(nn.Module):
    """Both ways read all channels and halve the map (figure 3d)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.shortcut = nn.Sequential(ConvBN(channels_in, channels_in, 3, 2, groups=channels_in, activation=None),
                                      ConvBN(channels_in, half, 1))
        self.body = _filtered(channels_in, half, 2)

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(torch.cat([self.shortcut(x), self.body(x)], 1), 2)


def _filtered(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(ConvBN(channels_in, channels, 1),
                         ConvBN(channels, channels, 3, stride, groups=channels, activation=None),
                         ConvBN(channels, channels, 1))
