"""The layers of a network on the integer grid: activations and weights that are rounded as integer kernels will.

Scales are symmetric (zero point 0 in int8), per output channel for weights, per tensor for activations. Knows no graph.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

INT8_MAX = 127


class FakeQuantizer(nn.Module):
    """Rounds an activation to ``scale`` times whole numbers; passes it through while ``enabled`` is False.

    Attributes:
        layer: whose result it rounds; for messages.
        largest_level: 127 with 8 bits; the smallest is one further from zero.
    """

    scale: Tensor

    def __init__(self, layer: str = "", bits: int = 8) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.layer, self.bits = layer, bits
        self.enabled = True

    @property
    def largest_level(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        zero = torch.zeros((), dtype=torch.int32, device=x.device)
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(
            x, self.scale, zero, -self.largest_level - 1, self.largest_level)
        return rounded


class QuantLayer(nn.Module):
    """What layers with weights on an int8 grid have in common; each output channel has its own scale.

    Attributes:
        channel_axis: the axis of ``weight`` that counts output channels.
        enabled: False for float weights.
    """

    channel_axis: ClassVar[int]
    weight: Tensor
    bias: Tensor | None
    groups: int
    weight_scale: Tensor
    enabled: bool

    def per_channel(self, values: Tensor) -> Tensor:
        """One value an output channel, shaped to go with ``weight``."""
        return values.reshape([-1 if axis == self.channel_axis else 1 for axis in range(self.weight.ndim)])

    def largest_weights(self) -> Tensor:
        """The largest magnitude of each output channel."""
        others = [axis for axis in range(self.weight.ndim) if axis != self.channel_axis]
        return self.weight.abs().amax(dim=others)

    def rounded_weight(self) -> Tensor:
        """The weights as integer kernels see them."""
        if not self.enabled:
            return self.weight
        zeros = torch.zeros(len(self.weight_scale), dtype=torch.int32, device=self.weight.device)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(
            self.weight, self.weight_scale, zeros, self.channel_axis, -INT8_MAX - 1, INT8_MAX)
        return rounded

    def take_over(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        self.load_state_dict(layer.state_dict())
        self.register_buffer("weight_scale", torch.ones(layer.weight.shape[self.channel_axis]))
        self.enabled = True


class QuantConv(QuantLayer, nn.Conv2d):
    """A convolution on the grid."""

    channel_axis = 0

    def __init__(self, conv: nn.Conv2d) -> None:
        nn.Conv2d.__init__(self, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
                           conv.dilation, conv.groups, conv.bias is not None)  # type: ignore[arg-type]
        self.take_over(conv)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, self.rounded_weight(), self.bias)
        return out


class QuantConvTranspose(QuantLayer, nn.ConvTranspose2d):
    """A transposed convolution on the grid; its weights are (in, out, h, w)."""

    channel_axis = 1

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        nn.ConvTranspose2d.__init__(
            self, conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
            conv.output_padding, conv.groups, conv.bias is not None, conv.dilation)  # type: ignore[arg-type]
        self.take_over(conv)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return nn.functional.conv_transpose2d(
            x, self.rounded_weight(), self.bias, self.stride, self.padding, self.output_padding,  # type: ignore[arg-type]
            self.groups, self.dilation)


def fake_quantizers(net: nn.Module) -> dict[str, FakeQuantizer]:
    return {name: module for name, module in net.named_modules() if isinstance(module, FakeQuantizer)}


def quant_convs(net: nn.Module) -> dict[str, QuantConv | QuantConvTranspose]:
    return {name: module for name, module in net.named_modules() if isinstance(module, (QuantConv, QuantConvTranspose))}


def set_enabled(net: nn.Module, *, weights: bool, activations: bool) -> None:
    """Choose what is rounded; with both off the network computes in float."""
    for quantizer in fake_quantizers(net).values():
        quantizer.enabled = activations
    for conv in quant_convs(net).values():
        conv.enabled = weights
