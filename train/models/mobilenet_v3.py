"""MobileNetV3 (Howard et al., ICCV 2019): inverted residuals whose sizes were searched for the latency of phones."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.layers import Activation, ConvBN, relu
from train.models.parts import Backbone
from train.models.width import check_width, scaled

STEM_CHANNELS = 16
SQUEEZE = 4  # hidden channels per channel of the summary in squeeze and excitation


class Row(NamedTuple):
    """A row of the paper's tables 1 and 2: a block's kernel, hidden and last channels, and what it has."""

    kernel: int
    hidden: int
    channels: int
    se: bool
    hard: bool  # hard-swish rather than ReLU
    stride: int


LAYOUTS = {
    "large": (
        Row(3, 16, 16, False, False, 1), Row(3, 64, 24, False, False, 2), Row(3, 72, 24, False, False, 1),
        Row(5, 72, 40, True, False, 2), Row(5, 120, 40, True, False, 1), Row(5, 120, 40, True, False, 1),
        Row(3, 240, 80, False, True, 2), Row(3, 200, 80, False, True, 1), Row(3, 184, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1), Row(3, 480, 112, True, True, 1), Row(3, 672, 112, True, True, 1),
        Row(5, 672, 160, True, True, 2), Row(5, 960, 160, True, True, 1), Row(5, 960, 160, True, True, 1)),
    "small": (
        Row(3, 16, 16, True, False, 2), Row(3, 72, 24, False, False, 2), Row(3, 88, 24, False, False, 1),
        Row(5, 96, 40, True, True, 2), Row(5, 240, 40, True, True, 1), Row(5, 240, 40, True, True, 1),
        Row(5, 120, 48, True, True, 1), Row(5, 144, 48, True, True, 1), Row(5, 288, 96, True, True, 2),
        Row(5, 576, 96, True, True, 1), Row(5, 576, 96, True, True, 1))}


def hardswish(_: int) -> nn.Module:
    return nn.Hardswish()


ACTIVATIONS: dict[str, Activation] = {"hardswish": hardswish, "relu": relu}


class MobileNetV3(Backbone):
    """(N, 3, h, w) to the last map at each of strides 4, 8, 16 and 32.

    The paper's last 1 x 1 convolution, to six times the channels, serves its classifier and is left out.

    Args:
        width: multiplier of all channels, rounded to multiples of 8.
        activation: ``relu`` puts ReLU where the paper has hard-swish: its values below zero, down to -3/8, cost INT8
            the sign bit of every activation and a layer of its own.
    """

    def __init__(self, size: Literal["small", "large"] = "small", width: float = 1.0,
                 activation: Literal["hardswish", "relu"] = "hardswish") -> None:
        super().__init__()
        if size not in LAYOUTS or activation not in ACTIVATIONS:
            raise RecipeError(f"model.options: size '{size}', expected {' or '.join(LAYOUTS)}; "
                              f"activation '{activation}', expected {' or '.join(ACTIVATIONS)}")
        check_width(width)
        hard, channels = ACTIVATIONS[activation], scaled(STEM_CHANNELS, width)
        stages: list[list[nn.Module]] = [[ConvBN(3, channels, 3, 2, activation=hard)]]
        widths: list[int] = [channels]
        for row in LAYOUTS[size]:
            if row.stride == 2:
                stages.append([])
                widths.append(channels)
            stages[-1].append(InvertedResidual(channels, row, width, hard if row.hard else relu))
            channels = scaled(row.channels, width)
            widths[-1] = channels
        self.stem = nn.Sequential(*stages[0])
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages[1:])
        self.widths, self.strides, self.coarsest_stride = tuple(widths[1:]), (4, 8, 16, 32), 32

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, perhaps weight the channels, project; a shortcut where the shape stays."""

    def __init__(self, channels_in: int, row: Row, width: float, activation: Activation) -> None:
        super().__init__()
        hidden, channels_out = scaled(row.hidden, width), scaled(row.channels, width)
        layers: list[nn.Module] = []
        if hidden != channels_in:
            layers.append(ConvBN(channels_in, hidden, 1, activation=activation))
        layers.append(ConvBN(hidden, hidden, row.kernel, row.stride, groups=hidden, activation=activation))
        if row.se:
            layers.append(HardSE(hidden))
        self.body = nn.Sequential(*layers, ConvBN(hidden, channels_out, 1, activation=None))
        self.shortcut = row.stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x) if self.shortcut else self.body(x)
        return out


class HardSE(nn.Module):
    """Squeeze and excitation with a gate of straight lines, on the expanded channels (section 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = scaled(channels, 1 / SQUEEZE)
        self.gate = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1),
                                  nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.gate(x.mean((2, 3), keepdim=True))
        return x * weights
