"""A network on the int8 grid: batch norm folded, and one FakeQuantizer behind every value that integer kernels store.

The rounded network is an ordinary torch module, so that calibration, repair and export look at one and the same
thing. Which values share a scale follows from the runtimes:

    addition         inputs and result have scales of their own; TensorRT, ONNX Runtime and TFLite want all rounded
    concatenation    inputs and result share one scale: TFLite refuses anything else, the others then only copy bytes
    upsampling, pooling by maximum or over windows, resampling, shuffles: the result has the scale of the input
    product, mean, sigmoid and other curves: computed in float between two roundings, where all inputs are rounded
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from operator import is_not
from typing import Any

from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekp.errors import RecipeError
from train.models.fake_quantize import (
    INT8_MAX,
    FakeQuantizer,
    QuantConv,
    QuantConvTranspose,
    QuantLayer,
    fake_quantizers,
    quant_convs,
    set_enabled,
)

__all__ = ["INT8_MAX", "FakeQuantizer", "QuantConv", "QuantConvTranspose", "QuantLayer", "QuantizationSpec",
           "fake_quantizers", "insert_fake_quantizers", "quant_convs", "set_enabled"]

ACTIVATIONS = (nn.ReLU, nn.PReLU)
SAME_SCALE = (nn.Upsample, nn.MaxPool2d, nn.AvgPool2d)
SAME_SCALE_CALLS = ("amax", "chunk", "split", "getitem", "grid_sample", "_dealt_out")
TUPLES = ("chunk", "split")
CURVES = (nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU, nn.AdaptiveAvgPool2d)
CURVE_CALLS = ("mul", "mean", "sigmoid")

Values = dict[fx.Node, fx.Node]  # each integer value: the first of those that it shares a scale with


@dataclass(frozen=True)
class QuantizationSpec:
    """Which layers stay in float, and whose results have 16 bits; a name covers the modules below it."""

    keep_float: tuple[str, ...]
    int16: tuple[str, ...] = ()

    def keeps(self, name: str) -> bool:
        return _covers(self.keep_float, name)


def insert_fake_quantizers(net: nn.Module, spec: QuantizationSpec) -> fx.GraphModule:
    """Fold batch norms, round the weights of convolutions, and put a FakeQuantizer behind every integer value.

    An integer value is the input, what a quantized convolution, an addition or a concatenation gives (after its
    activation), and what is made of such values alone by the operations in this module's list.

    Raises:
        RecipeError: ``keep_float`` or ``int16`` names a layer that the network does not have.
    """
    graph = fold(net)
    convs = {name: module for name, module in graph.named_modules()
             if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))}
    _require_known("keep_float", spec.keep_float, list(convs))
    for name, conv in convs.items():
        if not spec.keeps(name) and (isinstance(conv, nn.Conv2d) or conv.groups == 1):
            parent, _, child = name.rpartition(".")
            layer = QuantConv(conv) if isinstance(conv, nn.Conv2d) else QuantConvTranspose(conv)
            setattr(graph.get_submodule(parent), child, layer)
    _insert(graph, spec)
    return graph


def fold(net: nn.Module) -> fx.GraphModule:
    """The same network as a graph, in evaluation mode, with batch norms folded and without layers that do nothing."""
    graph = fuse(net.eval())
    assert isinstance(graph, fx.GraphModule)
    for node in list(graph.graph.nodes):
        module = module_of(graph, node)
        before = node.all_input_nodes[0] if node.all_input_nodes else node
        conv = module_of(graph, before)
        if isinstance(module, nn.BatchNorm2d) and isinstance(conv, nn.ConvTranspose2d) and len(before.users) == 1:
            parent, _, child = str(before.target).rpartition(".")
            setattr(graph.get_submodule(parent), child, fuse_conv_bn_eval(conv, module, transpose=True))
        elif not isinstance(module, nn.Identity):
            continue
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def module_of(graph: fx.GraphModule, node: fx.Node) -> Any:
    """The module that a node calls; None where it calls none."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _insert(graph: fx.GraphModule, spec: QuantizationSpec) -> None:
    values = _integer_values(graph)
    layers = {first: [_layer(graph, node) for node in values if values[node] is first] for first in values.values()}
    _require_known("int16", spec.int16, [name for names in layers.values() for name in names])
    for node, first in values.items():
        if _called(node) in TUPLES:
            continue
        name = f"quantizer_{first.name}"
        if name not in graph._modules:
            bits = 16 if any(_covers(spec.int16, layer) for layer in layers[first]) else 8
            graph.add_module(name, FakeQuantizer(layers[first][0], bits))
        with graph.graph.inserting_after(node):
            rounded = graph.graph.call_module(name, (node,))
        node.replace_all_uses_with(rounded, delete_user_cb=partial(is_not, rounded))
    graph.graph.lint()
    graph.recompile()


def _integer_values(graph: fx.GraphModule) -> Values:
    """All integer values, in the order of computation."""
    values: Values = {}
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        if _keeps_scale(graph, node) and inputs[0] in values:
            values[node] = values[inputs[0]]
        elif _has_own_scale(graph, node, values):
            values[node] = node
        if _called(node) == "cat":
            for other in inputs:
                _share(values, other, node)
    return values


def _share(values: Values, earlier: fx.Node, later: fx.Node) -> None:
    """One scale for two values and for all that share theirs; a float value has none to share."""
    if earlier in values:
        kept, replaced = values[earlier], values[later]
        for node, first in values.items():
            if first is replaced:
                values[node] = kept


def _keeps_scale(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(graph, node), SAME_SCALE) or _called(node) in SAME_SCALE_CALLS


def _has_own_scale(graph: fx.GraphModule, node: fx.Node, values: Values) -> bool:
    """Whether a value is rounded with a scale of its own, rather than kept in float or given to an activation."""
    if _feeds_only_an_activation(graph, node):
        return False
    source = _before_activation(graph, node)
    module = module_of(graph, source)
    if isinstance(module, CURVES) or _called(source) in CURVE_CALLS:
        return bool(source.all_input_nodes) and all(value in values for value in source.all_input_nodes)
    return source.op == "placeholder" or isinstance(module, QuantLayer) or _called(source) in ("add", "cat")


def _before_activation(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0] if isinstance(module_of(graph, node), ACTIVATIONS) else node


def _feeds_only_an_activation(graph: fx.GraphModule, node: fx.Node) -> bool:
    return len(node.users) == 1 and isinstance(module_of(graph, next(iter(node.users))), ACTIVATIONS)


def _layer(graph: fx.GraphModule, node: fx.Node) -> str:
    """What a user calls a value: the module that computes it, before its activation; else the graph's own name."""
    source = _before_activation(graph, node)
    return str(source.target) if source.op == "call_module" else source.name


def _called(node: fx.Node) -> str:
    """Name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) and node.op == "call_method" else getattr(
        node.target, "__name__", "")


def _covers(names: tuple[str, ...], name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in names)


def _require_known(setting: str, names: tuple[str, ...], known: list[str]) -> None:
    for name in names:
        if not any(_covers((name,), one) for one in known):
            listed = ", ".join(dict.fromkeys(known))
            raise RecipeError(f"optimize.quantize.{setting}: no layer '{name}'; known: {listed}")
