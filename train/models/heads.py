"""Heads of one stage: from feature maps to the outputs that a codec decodes."""

from __future__ import annotations

from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn

from train.models.layers import ConvBN
from train.models.parts import Head

INTEGRAL_CHANNELS = 96
EMBEDDING = 128
FIRST_LOGIT = -log(99)  # sigmoid 0.01
SIMCC_STRIDE = 16  # of the map that is flattened; a finer one makes the linear layers larger than the backbone


class HeatmapHead(Head):
    """One map per keypoint by a 1 x 1 convolution on the finest feature.

    Weights start near zero: with the default initialisation, MSE drives the maps to zero and leaves them there.

    Args:
        sigmoid: says probabilities, 0.01 everywhere at first: most cells hold no keypoint, and their sum would
            otherwise drown the few that do (Lin et al., ICCV 2017).
    """

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)
    maps: ClassVar[tuple[int, ...]] = (1,)  # coarser ones would be computed for nobody
    channels: ClassVar[int] = 1  # a keypoint

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int], *, sigmoid: bool = False) -> None:
        super().__init__()
        self.output = quiet(nn.Conv2d(widths[0], self.channels * keypoints, 1), FIRST_LOGIT if sigmoid else 0.0)
        self.sigmoid = sigmoid

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        maps: Tensor = self.output(features[0])
        return (maps.float().sigmoid() if self.sigmoid else maps,)  # bf16 has nothing between 0.996 and 1


class UDPCombinedHead(HeatmapHead):
    """The same with three maps per keypoint: its disc and the two offsets."""

    outputs: ClassVar[tuple[str, ...]] = ("discs_and_offsets",)
    channels: ClassVar[int] = 3

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int]) -> None:
        super().__init__(widths, strides, keypoints, input_hw)  # offsets have both signs, so there is no sigmoid


class OffsetHead(Head):
    """A map and two offsets per keypoint by two 1 x 1 convolutions, each with its own scale once it is quantized."""

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps", "offsets")
    maps: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.output = nn.ModuleDict({"heatmaps": quiet(nn.Conv2d(widths[0], keypoints, 1)),
                                     "offsets": quiet(nn.Conv2d(widths[0], 2 * keypoints, 1))})

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.output[name](features[0]) for name in self.outputs)


class SimCCHead(Head):
    """One map per keypoint at stride 16, flattened; from its cells the bins along x and y (SimCC, RTMPose)."""

    outputs: ClassVar[tuple[str, ...]] = ("simcc_x", "simcc_y")
    maps: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int], *, bins_x: int, bins_y: int) -> None:
        super().__init__()
        self.reduce, width, stride = halvings(widths[-1], strides[-1])
        h, w = (-(-side // stride) for side in input_hw)
        self.output = FlatBins(width, keypoints, h * w, bins_x, bins_y)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        bins: tuple[Tensor, ...] = self.output(self.reduce(features[-1]))
        return bins


def halvings(width: int, stride: int) -> tuple[nn.Sequential, int, int]:
    """Convolutions that halve a map and double its channels until its stride is 16; what both are in the end."""
    layers: list[nn.Module] = []
    while stride < SIMCC_STRIDE:
        layers.append(ConvBN(width, 2 * width, 3, stride=2))
        width, stride = 2 * width, 2 * stride
    return nn.Sequential(*layers), width, stride


class FlatBins(nn.Module):
    """From (N, C, h, w) to the bins (N, K, bins) of each axis, by linear layers that all keypoints share.

    They are 1 x 1 convolutions with cells and bins as channels, so that they are counted and quantized like others.
    """

    def __init__(self, channels: int, keypoints: int, cells: int, bins_x: int, bins_y: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, keypoints, 1)
        self.x = nn.Conv2d(cells, bins_x, 1)
        self.y = nn.Conv2d(cells, bins_y, 1)

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        keypoints, cells = self.maps.out_channels, self.x.in_channels
        flat = self.maps(feature).reshape(-1, keypoints, cells, 1).transpose(1, 2)  # (N, h * w, K, 1)
        return tuple(layer(flat).reshape(-1, layer.out_channels, keypoints).transpose(1, 2)
                     for layer in (self.x, self.y))


class IntegralHead(Head):
    """Coordinates as the expectation over a map (integral regression, Sun et al., ECCV 2018).

    The two coarsest features are merged top-down (FPN, Lin et al., 2017), so that what a position means is learnt
    once for all positions; a fully connected head learns it for each and needs more faces to do so.
    """

    outputs: ClassVar[tuple[str, ...]] = ("coordinates",)
    maps: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int]) -> None:
        super().__init__()
        fine, coarse = widths[-2], widths[-1]
        self.from_coarse = nn.Sequential(ConvBN(coarse, INTEGRAL_CHANNELS, 1, activation=None),
                                         nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        self.from_fine = ConvBN(fine, INTEGRAL_CHANNELS, 1, activation=None)
        self.relu = nn.ReLU()
        self.smooth = ConvBN(INTEGRAL_CHANNELS, INTEGRAL_CHANNELS, 3)
        self.output = quiet(nn.Conv2d(INTEGRAL_CHANNELS, keypoints, 1))
        h, w = (side // strides[-2] for side in input_hw)
        x, y = (torch.arange(w) + 0.5) / w - 0.5, (torch.arange(h) + 0.5) / h - 0.5
        cells_xy = torch.stack([x.repeat(h), y.repeat_interleave(w)])
        self.register_buffer("cells_xy", cells_xy, persistent=False)  # (2, h * w), the regression codec's units

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        merged = self.relu(self.from_fine(features[-2]) + self.from_coarse(features[-1]))
        weights = self.output(self.smooth(merged)).float().flatten(2).softmax(-1)
        return ((weights[:, :, None] * self.cells_xy).sum(-1),)  # autocast makes a product of matrices bf16: 0.2 px off


class GlobalDepthwiseHead(Head):
    """MobileFaceNet's own end: a depthwise convolution as large as the map, an embedding, and a linear layer."""

    outputs: ClassVar[tuple[str, ...]] = ("coordinates",)
    maps: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int]) -> None:
        super().__init__()
        hidden = 3 * widths[-1]
        h, w = (side // strides[-1] for side in input_hw)
        self.expand = ConvBN(widths[-1], hidden, 1)
        self.pool = nn.Sequential(nn.Conv2d(hidden, hidden, (h, w), groups=hidden, bias=False), nn.BatchNorm2d(hidden))
        self.embed = nn.Sequential(nn.Conv2d(hidden, EMBEDDING, 1, bias=False), nn.BatchNorm2d(EMBEDDING))
        self.output = quiet(nn.Conv2d(EMBEDDING, 2 * keypoints, 1))
        self.keypoints = keypoints

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        coordinates: Tensor = self.output(self.embed(self.pool(self.expand(features[-1])))).float()
        return (coordinates.reshape(-1, self.keypoints, 2),)


def quiet(layer: nn.Conv2d, first: float = 0.0) -> nn.Conv2d:
    """A layer whose first outputs are all close to one number."""
    nn.init.normal_(layer.weight, std=1e-3)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, first)
    return layer
