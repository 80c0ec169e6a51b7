"""OpenPose's head: maps of keypoints and part affinity fields of a whole scene, said once and then refined."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from edgekp.errors import RecipeError
from edgekp.skeletons import OPENPOSE18
from train.models.heads import quiet
from train.models.layers import ConvBN
from train.models.parts import Head

BLOCKS = 3  # of a refinement: each cell sees 19, 152 pixels at stride 8, beside what the backbone saw; Osokin has 5
MAPS = {"heatmaps": len(OPENPOSE18) + 1, "pafs": 2 * len(OPENPOSE18.limbs)}


class OpenPoseHead(Head):
    """An initial stage, then refinements that read the feature and all maps of the stage before.

    Cao et al., CVPR 2017, in the size of Lightweight OpenPose (Osokin, 2018): both kinds of maps share their
    convolutions, which are 3 x 3. ``keypoints`` is that of the labels and is not read: the maps are of OpenPose's 18.

    Args:
        stride: of the maps, as the codec says; a finer feature is halved until it has it.
        stages: how many refinements; the paper has 5, of which Osokin keeps 1.
        channels: of every convolution, a multiple of 8.
    """

    outputs: ClassVar[tuple[str, ...]] = tuple(MAPS)
    maps: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int], *, stride: int, stages: int = 1, channels: int = 128) -> None:
        super().__init__()
        if not 0 <= stages <= 5 or channels < 8 or channels % 8:
            raise RecipeError(f"model.head_options: stages {stages}, expected 0 to 5; "
                              f"channels {channels}, expected a multiple of 8")
        self.feature = _brought_to(stride, widths[0], strides[0], channels)
        self.first = nn.Sequential(*(ConvBN(channels, channels, 3) for _ in range(3)), ConvBN(channels, channels, 1))
        self.later = nn.ModuleList(Refinement(channels) for _ in range(stages))
        self.output = nn.ModuleDict({
            "says": nn.ModuleList(Says(channels) for _ in range(stages + 1)),
            "reads": nn.ModuleList(Reads(channels) for _ in range(stages))})

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *later = self.output["says"].children()
        feature = self.feature(features[0])
        said = everything = first(self.first(feature))
        for refine, read, say in zip(self.later, self.output["reads"].children(), later, strict=True):
            said = say(refine(feature, read(said)))
            everything = (*everything, *said)
        outputs: tuple[Tensor, ...] = everything if self.training else said
        return outputs


class Says(nn.Module):
    """A feature to the maps of both kinds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heatmaps, self.pafs = (quiet(nn.Conv2d(channels, count, 1)) for count in MAPS.values())
        assert self.heatmaps.bias is not None
        nn.init.ones_(self.heatmaps.bias[-1])  # as nearly everywhere; from 0 the loss of 100 steps later is 1.6 x it

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        return self.heatmaps(feature), self.pafs(feature)


class Reads(nn.Module):
    """The maps of both kinds to one feature, which is a convolution of them side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heatmaps, self.pafs = (nn.Conv2d(count, channels, 1, bias=False) for count in MAPS.values())

    def forward(self, said: tuple[Tensor, ...]) -> Tensor:
        feature: Tensor = self.heatmaps(said[0]) + self.pafs(said[1])
        return feature


class Refinement(nn.Module):
    """Looks around in the feature and in what was read from the maps before; their sum is a convolution of both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_feature = ConvBN(channels, channels, 1, activation=None)
        self.relu = nn.ReLU()
        self.around = nn.Sequential(*(DilatedBlock(channels) for _ in range(BLOCKS)), ConvBN(channels, channels, 1))

    def forward(self, feature: Tensor, from_maps: Tensor) -> Tensor:
        out: Tensor = self.around(self.relu(self.from_feature(feature) + from_maps))
        return out


class DilatedBlock(nn.Module):
    """A dense and a dilated 3 x 3 convolution and a shortcut, for the 7 x 7 kernels of the paper (Osokin, 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBN(channels, channels, 3),
                                  ConvBN(channels, channels, 3, dilation=2, activation=None))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(x + self.body(x))
        return out


def _brought_to(stride: int, width: int, found: int, channels: int) -> nn.Sequential:
    """The feature at the stride of the maps."""
    layers: list[nn.Module] = []
    while found < stride:
        layers.append(ConvBN(width, channels, 3, stride=2))
        width, found = channels, 2 * found
    if found != stride:
        raise RecipeError(f"codec.options.stride: {stride}, but the feature under the head has stride {found}, and the "
                          "head can only halve it; choose that, or twice or four times as much")
    return nn.Sequential(*layers, ConvBN(width, channels, 3))
