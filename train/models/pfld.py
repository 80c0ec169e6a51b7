"""PFLD (Guo et al., 2019): a thin MobileNetV2 for faces, and a head that reads its end at three scales.

The auxiliary network, which learns the head's pose from 3D angles beside the keypoints and is thrown away afterwards,
is not here: it needs labels of pose and a loss that reads them.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from train.models.heads import quiet
from train.models.layers import ConvBN, relu
from train.models.mobilefacenet import Bottleneck
from train.models.parts import Backbone, Head
from train.models.width import check_width, scaled

STEM_CHANNELS = 64
ROWS = ((2, 64, 5, 2), (2, 128, 1, 2), (4, 128, 6, 1), (2, 16, 1, 1))  # expansion, channels, repeats, first stride
LAST_CHANNELS = 32
NARROW = 32  # channels that a convolution as large as the map can afford
WHOLE = 128  # channels of what sees the whole map


class PFLD(Backbone):
    """(N, 3, h, w) to maps of 16 and 32 channels at strides 8 and 16: S1 and S2 of the paper's table 1.

    S3 is a convolution as large as the map and belongs to the head, as its weights know the size of the input.

    Args:
        width: multiplier of all channels, rounded to multiples of 8; 0.25 is the paper's small model.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        check_width(width)
        channels = scaled(STEM_CHANNELS, width)
        self.stem = nn.Sequential(ConvBN(3, channels, 3, 2), ConvBN(channels, channels, 3, groups=channels))
        blocks: list[nn.Module] = []
        for expansion, row_channels, repeats, first_stride in ROWS:
            for i in range(repeats):
                goal = scaled(row_channels, width)
                blocks.append(Bottleneck(channels, goal, expansion, first_stride if i == 0 else 1, relu, "none"))
                channels = goal
        self.body = nn.Sequential(*blocks)
        self.widths, self.strides = (channels, scaled(LAST_CHANNELS, width)), (8, 16)
        self.coarsest_stride = 16
        self.last = ConvBN(channels, self.widths[1], 3, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        fine = self.body(self.stem(image))
        return fine, self.last(fine)


class MultiScaleHead(Head):
    """Coordinates from the means of every map and from the whole of the coarsest, by one linear layer (section 3.3).

    PFLD's two maps make the paper's three scales. A wider map than its own is narrowed first: 7 x 7 x 128 x 128
    weights would be more than all others together.
    """

    outputs: ClassVar[tuple[str, ...]] = ("coordinates",)
    maps: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int]) -> None:
        super().__init__()
        narrow = min(widths[-1], NARROW)
        self.narrow = ConvBN(widths[-1], narrow, 1) if narrow < widths[-1] else nn.Identity()
        h, w = (side // strides[-1] for side in input_hw)
        self.whole = nn.Sequential(nn.Conv2d(narrow, WHOLE, (h, w), bias=False), nn.BatchNorm2d(WHOLE), nn.ReLU())
        self.output = quiet(nn.Conv2d(sum(widths) + WHOLE, 2 * keypoints, 1))
        self.keypoints = keypoints

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        means = [x.mean((2, 3), keepdim=True) for x in features]
        scales = torch.cat([*means, self.whole(self.narrow(features[-1]))], 1)
        coordinates: Tensor = self.output(scales).float()
        return (coordinates.reshape(-1, self.keypoints, 2),)
