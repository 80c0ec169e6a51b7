"""A network on the int8 grid: batch norm folded, weights and activations rounded as the integer kernels will.

The rounded network is an ordinary torch module, so that calibration, repair and export look at one and the same
thing. Scales are symmetric (zero point 0 in int8), per output channel for weights, per tensor for activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.functional import grid_sample

from edgekp.errors import RecipeError

INT8_MAX = 127
ACTIVATIONS = (nn.ReLU, nn.PReLU)


@dataclass(frozen=True)
class QuantizationSpec:
    """Which layers stay in float, and whose results have 16 bits; a name covers the modules below it."""

    keep_float: tuple[str, ...]
    int16: tuple[str, ...] = ()

    def keeps(self, name: str) -> bool:
        return any(name == kept or name.startswith(f"{kept}.") for kept in self.keep_float)


class FakeQuantizer(nn.Module):
    """Rounds an activation to ``scale * [-128 .. 127]``; passes it through while ``enabled`` is False."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        zero = torch.zeros((), dtype=torch.int32, device=x.device)
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, self.scale, zero, -INT8_MAX - 1, INT8_MAX)
        return rounded


class QuantConv(nn.Conv2d):
    """A convolution whose weights lie on an int8 grid with one scale per output channel."""

    weight_scale: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
                         conv.dilation, conv.groups, conv.bias is not None)  # type: ignore[arg-type]
        self.load_state_dict(conv.state_dict())
        self.register_buffer("weight_scale", torch.ones(conv.out_channels))
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if self.enabled:
            zeros = torch.zeros(self.out_channels, dtype=torch.int32, device=x.device)
            weight = torch.fake_quantize_per_channel_affine(
                weight, self.weight_scale, zeros, 0, -INT8_MAX - 1, INT8_MAX)
        out: Tensor = self._conv_forward(x, weight, self.bias)
        return out


def insert_fake_quantizers(net: nn.Module, spec: QuantizationSpec) -> fx.GraphModule:
    """Fold batch norms, make the convolutions QuantConvs and put one FakeQuantizer behind every int8 value.

    An int8 value is the input, or what a quantized convolution, an addition or a concatenation gives (after its
    activation); upsampling, pooling by maximum and resampling keep the scale of what they look at.

    Raises:
        RecipeError: ``keep_float`` names a layer that the network does not have.
    """
    graph = fuse(net.eval())
    assert isinstance(graph, fx.GraphModule)
    convs = {name: module for name, module in graph.named_modules() if isinstance(module, nn.Conv2d)}
    for kept in spec.keep_float:
        if not any(QuantizationSpec((kept,)).keeps(name) for name in convs):
            raise RecipeError(f"optimize.quantize.keep_float: no layer '{kept}'; known: {', '.join(convs)}")
    for name, conv in convs.items():
        if not spec.keeps(name):
            parent, _, child = name.rpartition(".")
            setattr(graph.get_submodule(parent), child, QuantConv(conv))
    _insert(graph)
    return graph


def fake_quantizers(net: nn.Module) -> dict[str, FakeQuantizer]:
    return {name: module for name, module in net.named_modules() if isinstance(module, FakeQuantizer)}


def quant_convs(net: nn.Module) -> dict[str, QuantConv]:
    return {name: module for name, module in net.named_modules() if isinstance(module, QuantConv)}


def set_enabled(net: nn.Module, *, weights: bool, activations: bool) -> None:
    """Choose what is rounded; with both off the network computes in float."""
    for quantizer in fake_quantizers(net).values():
        quantizer.enabled = activations
    for conv in quant_convs(net).values():
        conv.enabled = weights


def _insert(graph: fx.GraphModule) -> None:
    """Walk the graph once; ``quantizer_of`` maps each int8 value to the name of its FakeQuantizer."""
    quantizer_of: dict[fx.Node, str] = {}
    for node in list(graph.graph.nodes):
        name = _quantizer_for(graph, node, quantizer_of)
        if name is None:
            continue
        if name not in graph._modules:
            graph.add_module(name, FakeQuantizer())
        with graph.graph.inserting_after(node):
            rounded = graph.graph.call_module(name, (node,))
        node.replace_all_uses_with(rounded, delete_user_cb=lambda user, mine=rounded: user is not mine)
        quantizer_of[rounded] = name
    graph.graph.lint()
    graph.recompile()


def _quantizer_for(graph: fx.GraphModule, node: fx.Node, quantizer_of: dict[fx.Node, str]) -> str | None:
    """The FakeQuantizer that belongs behind a node, or None where its value is no int8 value."""
    module = _module(graph, node)
    if isinstance(module, (nn.Upsample, nn.MaxPool2d)) or node.target is grid_sample:
        return quantizer_of.get(node.all_input_nodes[0])
    source = node
    if isinstance(module, ACTIVATIONS):
        source = node.all_input_nodes[0]
    elif _feeds_only_an_activation(graph, node):
        return None
    if source.op == "placeholder" or _joins_values(source) or isinstance(_module(graph, source), QuantConv):
        return f"quantizer_{node.name}"
    return None


def _feeds_only_an_activation(graph: fx.GraphModule, node: fx.Node) -> bool:
    return len(node.users) == 1 and isinstance(_module(graph, next(iter(node.users))), ACTIVATIONS)


def _joins_values(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") in ("add", "cat")


def _module(graph: fx.GraphModule, node: fx.Node) -> Any:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None
