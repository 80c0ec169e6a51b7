"""The head of a convolutional pose machine: maps that are said, looked at in a wide surrounding, and said again.

Wei et al., CVPR 2016. Its stages are supervised by the training, which averages the loss over what a head says.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.heads import quiet
from train.models.layers import ConvBN
from train.models.parts import Head

LOOKS = 3  # 7 x 7 convolutions of a stage: it sees 19 cells, and two stages 37 cells, 148 pixels at stride 4


class CPMHead(Head):
    """One map per keypoint and stage, each later stage from the feature and the maps before it.

    The paper's large kernels are depthwise here, each before a 1 x 1 convolution: a dense 7 x 7 convolution of 64
    channels has 200,704 weights, this pair 7,232, and what it sees has no gaps as dilated kernels have.

    Args:
        stages: 2 to 6; the paper's accuracy rises little after the third.
        channels: of a stage, a multiple of 8.
    """

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)
    maps: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int], *, stages: int = 3, channels: int = 64) -> None:
        super().__init__()
        if not 2 <= stages <= 6 or channels < 8 or channels % 8:
            raise RecipeError(f"model.head_options: stages {stages}, expected 2 to 6; "
                              f"channels {channels}, expected a multiple of 8")
        self.first = nn.Sequential(ConvBN(widths[0], channels, 3), ConvBN(channels, channels, 3))
        self.later = nn.ModuleList(Look(widths[0], channels) for _ in range(stages - 1))
        self.output = nn.ModuleDict({
            "says": nn.ModuleList(quiet(nn.Conv2d(channels, keypoints, 1)) for _ in range(stages)),
            "reads": nn.ModuleList(nn.Conv2d(keypoints, channels, 1, bias=False) for _ in range(stages - 1))})

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        feature = features[0]
        first, *others = self.output["says"].children()
        said: list[Tensor] = [first(self.first(feature))]
        for look, read, say in zip(self.later, self.output["reads"].children(), others, strict=True):
            said.append(say(look(feature, read(said[-1]))))
        return tuple(said) if self.training else (said[-1],)


class Look(nn.Module):
    """The feature and what was read from the maps before it, seen through ``LOOKS`` large kernels.

    Adding the two after a 1 x 1 convolution of each is the same as one convolution of both, and needs no copy.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.from_feature = ConvBN(width, channels, 1, activation=None)
        self.relu = nn.ReLU()
        self.around = nn.Sequential(*(layer for _ in range(LOOKS) for layer in (
            ConvBN(channels, channels, 7, groups=channels, activation=None), ConvBN(channels, channels, 1))))

    def forward(self, feature: Tensor, from_maps: Tensor) -> Tensor:
        out: Tensor = self.around(self.relu(self.from_feature(feature) + from_maps))
        return out
