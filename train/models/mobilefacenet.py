"""MobileFaceNet's backbone (Chen et al., 2018): inverted residuals of MobileNetV2 with few early channels.

ReLU by default; the paper's PReLU stays selectable, but costs 2.4 x on ONNX Runtime 1.31 and splits INT8 TFLite.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.attention import attention_named
from train.models.layers import Activation, ConvBN, prelu, relu
from train.models.parts import Backbone

ACTIVATIONS: dict[str, Activation] = {"relu": relu, "prelu": prelu}
# expansion, channels, repeats, stride of the first, by stage; the paper's table 1
STAGES = (((2, 64, 5, 2),), ((4, 128, 1, 2), (2, 128, 6, 1)), ((4, 128, 1, 2), (2, 128, 2, 1)))


class MobileFaceNet(Backbone):
    """(N, 3, h, w) to feature maps of 64, 128 and 128 channels at strides 4, 8 and 16."""

    def __init__(self, activation: Literal["relu", "prelu"] = "relu",
                 attention: Literal["none", "se", "cbam"] = "none") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise RecipeError(f"model.options.activation: '{activation}', expected {' or '.join(ACTIVATIONS)}")
        act = ACTIVATIONS[activation]
        self.widths, self.strides = tuple(stage[-1][1] for stage in STAGES), (4, 8, 16)
        self.coarsest_stride = 16
        self.stem = nn.Sequential(ConvBN(3, 64, 3, 2, activation=act), ConvBN(64, 64, 3, groups=64, activation=act))
        self.stages = nn.ModuleList()
        channels = 64
        for stage in STAGES:
            blocks: list[nn.Module] = []
            for expansion, width, repeats, stride in stage:
                for i in range(repeats):
                    blocks.append(Bottleneck(channels, width, expansion, stride if i == 0 else 1, act, attention))
                    channels = width
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)


class Bottleneck(nn.Module):
    """Expand, filter each channel, project, perhaps attend; a shortcut where the shape stays.

    Attention looks at what is projected, not at the expanded channels as in MobileNetV3: there SE alone costs 0.12 M
    parameters, and the network must stay below a million.
    """

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int, act: Activation,
                 attention: str) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.body = nn.Sequential(ConvBN(channels_in, hidden, 1, activation=act),
                                  ConvBN(hidden, hidden, 3, stride, groups=hidden, activation=act),
                                  ConvBN(hidden, channels_out, 1, activation=None),
                                  attention_named(attention, channels_out))
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x) if self.shortcut else self.body(x)
        return out
