"""Lite-HRNet (Yu et al., CVPR 2021): HRNet whose 1 x 1 convolutions became weights computed from all resolutions."""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.layers import Activation, ConvBN, relu
from train.models.parts import Backbone
from train.models.shuffle import channel_shuffle, halves

STEM_CHANNELS = 32
MODULES = {10: (1, 2, 1), 18: (2, 4, 2), 30: (3, 8, 3)}  # by depth, at 2, 3 and 4 branches; 18 and 30: table 1
BLOCKS = 2  # between two fusions
REDUCTION = 8  # of the hidden channels across resolutions
SPATIAL_REDUCTION = 4


class LiteHRNet(Backbone):
    """(N, 3, h, w) to one feature map of ``width`` channels at stride 4.

    The paper's networks are depths 18 and 30 with width 40 and 4 branches. As in HRNet, the last fusion makes the
    finest branch alone; the authors' code makes all of them and merges them again in a head of its own. Choose a depth
    and a width instead of pruning: a shuffle ties channels to their places, which torch-pruning cannot follow.

    Args:
        depth: blocks one after the other, the stem's two layers included; 10 is ours, for the smallest devices.
        width: channels of the finest branch; each coarser branch doubles it.
        branches: resolutions, 1/4 of the input and then halved; with fewer than 4 the last stages are left out.
    """

    def __init__(self, depth: int = 18, width: int = 40, branches: int = 4) -> None:
        super().__init__()
        if depth not in MODULES or width < 16 or width % 8 or branches not in (2, 3, 4):
            raise RecipeError(f"model.options: depth {depth}, expected {' or '.join(map(str, MODULES))}; "
                              f"width {width}, expected a multiple of 8 from 16 on; "
                              f"branches {branches}, expected 2 to 4")
        widths = [width * 2**i for i in range(branches)]
        self.widths, self.strides = (width,), (4,)
        self.coarsest_stride = 4 * 2 ** (branches - 1)
        self.stem = nn.Sequential(ConvBN(3, STEM_CHANNELS, 3, 2), ShuffleDown(STEM_CHANNELS))
        self.widen = _separable(STEM_CHANNELS, width, 1, relu)
        self.downs = nn.ModuleList(_separable(fine, coarse, 2, relu)
                                   for fine, coarse in zip([STEM_CHANNELS, *widths[1:]], widths[1:], strict=False))
        self.stages = nn.ModuleList()
        for count in range(2, branches + 1):
            repeats = MODULES[depth][count - 2]
            self.stages.append(nn.ModuleList(
                Fusion(widths[:count], 1 if count == branches and i == repeats - 1 else count)
                for i in range(repeats)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        coarsest = self.stem(image)
        branches = [self.widen(coarsest)]
        for down, stage in zip(self.downs, self.stages, strict=True):
            branches = [*branches, down(coarsest)]
            for fusion in stage:  # type: ignore[attr-defined]
                branches = fusion(branches)
            coarsest = branches[-1]
        return (branches[0],)


class ShuffleDown(nn.Module):
    """ShuffleNetV2's unit that halves the map, each way on one half of the channels (figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.first = _separable(half, half, 2, relu)
        self.second = nn.Sequential(ConvBN(half, channels, 1), _separable(channels, half, 2, relu))

    def forward(self, x: Tensor) -> Tensor:
        first, second = halves(x)
        return channel_shuffle(torch.cat([self.first(first), self.second(second)], 1), 2)


class Fusion(nn.Module):
    """Blocks over all branches, then every kept branch becomes the sum of all, brought to its resolution."""

    def __init__(self, widths: list[int], kept: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ConditionalChannelWeighting(widths) for _ in range(BLOCKS)))
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(widths, source, goal) for source in range(len(widths))) for goal in range(kept))
        self.relu = nn.ReLU()

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        maps = self.blocks(inputs)
        return [self.relu(reduce(add, (path(x) for path, x in zip(paths, maps, strict=True))))  # type: ignore[call-overload]
                for paths in self.paths]


class ConditionalChannelWeighting(nn.Module):
    """On one half of the channels: weights per cell, a depthwise convolution, weights per channel; then a shuffle."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        channels = [width // 2 for width in widths]
        self.across = CrossResolutionWeighting(channels)
        self.within = nn.ModuleList(
            nn.Sequential(ConvBN(count, count, 3, groups=count, activation=None), SpatialWeighting(count))
            for count in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        pairs = [halves(x) for x in maps]
        weighted = self.across([second for _, second in pairs])
        return [channel_shuffle(torch.cat([first, within(x)], 1), 2)
                for (first, _), within, x in zip(pairs, self.within, weighted, strict=True)]


class CrossResolutionWeighting(nn.Module):
    """Every channel of every map times a weight per cell of the coarsest map, computed there from all maps.

    The weights are interpolated; the paper repeats each for all its cells, which takes a tenth less time.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels, total = channels, sum(channels)
        factors = [2 ** (len(channels) - 1 - i) for i in range(len(channels) - 1)]
        self.downs = nn.ModuleList([*map(nn.AvgPool2d, factors), nn.Identity()])  # the sides are multiples
        self.ups = nn.ModuleList([*map(_bilinear, factors), nn.Identity()])
        self.gate = nn.Sequential(ConvBN(total, total // REDUCTION, 1),
                                  ConvBN(total // REDUCTION, total, 1, activation=_sigmoid))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        summary = torch.cat([down(x) for down, x in zip(self.downs, maps, strict=True)], 1)
        weights = self.gate(summary).split(self.channels, 1)
        return [x * up(weights[i]) for i, (x, up) in enumerate(zip(maps, self.ups, strict=True))]


class SpatialWeighting(nn.Module):
    """Every channel times a weight computed from the means of all channels of its map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeeze = nn.Conv2d(channels, channels // SPATIAL_REDUCTION, 1)
        assert squeeze.bias is not None
        nn.init.zeros_(squeeze.bias)  # means of normalised maps are near zero: a bias alone would decide who ever fires
        self.gate = nn.Sequential(squeeze, nn.ReLU(), nn.Conv2d(squeeze.out_channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.gate(x.mean((2, 3), keepdim=True))
        return x * weights


def _path(widths: list[int], source: int, goal: int) -> nn.Module:
    """From one branch to another: nothing, a 1 x 1 convolution and upsampling, or separable strided convolutions."""
    if source == goal:
        return nn.Identity()
    if source > goal:
        return nn.Sequential(ConvBN(widths[source], widths[goal], 1, activation=None),
                             _bilinear(2 ** (source - goal)))
    halvings = [_separable(widths[source], widths[source], 2, relu) for _ in range(goal - source - 1)]
    return nn.Sequential(*halvings, _separable(widths[source], widths[goal], 2, None))


def _separable(channels_in: int, channels_out: int, stride: int, activation: Activation | None) -> nn.Sequential:
    """A depthwise 3 x 3 convolution and a 1 x 1 convolution."""
    return nn.Sequential(ConvBN(channels_in, channels_in, 3, stride, groups=channels_in, activation=None),
                         ConvBN(channels_in, channels_out, 1, activation=activation))


def _bilinear(factor: int) -> nn.Upsample:
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)


def _sigmoid(_: int) -> nn.Module:
    return nn.Sigmoid()
