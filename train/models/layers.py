"""Building blocks that the backbones share: convolution, batch norm and activation in one piece."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from train.models.attention import attention_named

Activation = Callable[[int], nn.Module]


def relu(_: int) -> nn.Module:
    return nn.ReLU()


def prelu(channels: int) -> nn.Module:
    """One learnt slope per channel, as in MobileFaceNet; costs INT8 its speed (see docs/results.md)."""
    return nn.PReLU(channels)


class ConvBN(nn.Sequential):
    """Convolution without bias, batch norm and, unless None, an activation; padded to keep the size at stride 1."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1,
                 activation: Activation | None = relu, dilation: int = 1) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(channels_in, channels_out, kernel, stride, dilation * (kernel // 2), dilation, groups,
                      bias=False),
            nn.BatchNorm2d(channels_out)]
        if activation is not None:
            layers.append(activation(channels_out))
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Two dense 3 x 3 convolutions, perhaps attention, and a shortcut (He et al., 2016)."""

    def __init__(self, channels: int, attention: str = "none") -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBN(channels, channels, 3), ConvBN(channels, channels, 3, activation=None),
                                  attention_named(attention, channels))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(x + self.body(x))
        return out


class DepthwiseBlock(nn.Module):
    """The residual block with depthwise separable convolutions: a fifth of the MACs, seldom of the latency."""

    def __init__(self, channels: int, attention: str = "none") -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBN(channels, channels, 3, groups=channels), ConvBN(channels, channels, 1),
            ConvBN(channels, channels, 3, groups=channels), ConvBN(channels, channels, 1, activation=None),
            attention_named(attention, channels))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(x + self.body(x))
        return out
