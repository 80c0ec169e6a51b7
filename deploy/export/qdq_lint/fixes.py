"""Fixes of what the rules find. Each changes the model in place and keeps what it computes, as its rule promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from deploy.export.qdq_lint.graph import PAIR, Array, Graph, Place, attribute
from deploy.export.qdq_lint.grid_rules import UINT8_MIDDLE


def respell_int8(graph: Graph, places: Sequence[Place]) -> None:
    """uint8 around 128 becomes int8 around 0; a maximum with 128 on integers becomes a ReLU before the rounding."""
    for place in places:
        node, zero = place.node, graph.grid(place.node).zero
        if graph.is_constant(node.input[0]) and node.input[0] in graph.constants and node.op_type == PAIR[1]:
            levels = graph.constants[node.input[0]].astype(np.int16) - UINT8_MIDDLE
            node.input[0] = _constant(graph, f"{node.input[0]}_int8", levels.astype(np.int8))
        _set_zero_point(graph, node, np.zeros(zero.shape, np.int8))
    for node in [*graph.of_type("Max"), *graph.of_type("Clip")]:
        source = graph.producer.get(node.input[0])
        if source is not None and source.op_type == "QuantizeLinear" and len(graph.readers[source.output[0]]) == 1:
            rectified = f"{node.output[0]}_relu"
            at = graph.nodes.index(source)
            graph.nodes.insert(at, helper.make_node("Relu", [source.input[0]], [rectified], name=rectified))
            source.input[0], source.output[0] = rectified, node.output[0]
            graph.nodes.remove(node)
    _write(graph)


def respell_uint8(graph: Graph, places: Sequence[Place]) -> None:
    """int8 activations around 0 become uint8 around 128; weights stay int8."""
    for place in places:
        _set_zero_point(graph, place.node, np.full(graph.grid(place.node).zero.shape, UINT8_MIDDLE, np.uint8))
    _write(graph)


def rectify_on_the_grid(graph: Graph, places: Sequence[Place]) -> None:
    """A ReLU becomes the maximum of the levels and the zero point."""
    for place in places:
        relu = place.node
        for node in graph.readers[relu.output[0]]:
            levels, zero = node.output[0], node.input[2]
            node.input[0], node.output[0] = relu.input[0], f"{levels}_before_relu"
            largest = helper.make_node("Clip", [node.output[0], zero], [levels], name=f"{levels}_relu")
            graph.nodes.insert(graph.nodes.index(node) + 1, largest)
        graph.nodes.remove(relu)
    _write(graph)


def drop_second_pair(graph: Graph, places: Sequence[Place]) -> None:
    for place in places:
        first = graph.producer[place.node.input[0]]
        place.node.op_type = "Identity"  # the levels themselves, not rounded again
        del place.node.attribute[:]
        place.node.input[:] = [first.input[0]]
    _drop_identities(graph)
    _write(graph)


def store_weights(graph: Graph, places: Sequence[Place]) -> None:
    """Weights as the levels that the QuantizeLinear would compute at every start."""
    for place in places:
        node, grid = place.node, graph.grid(place.node)
        values = graph.constants[node.input[0]]
        limits = np.iinfo(grid.zero.dtype)
        scale, zero = (_along(array, values.ndim, grid.axis) for array in (grid.scale, grid.zero))
        levels = np.rint(values / scale) + zero
        _constant(graph, node.output[0], np.clip(levels, limits.min, limits.max).astype(grid.zero.dtype))
        graph.nodes.remove(node)
    _write(graph)


def repeat_weight_scale(graph: Graph, places: Sequence[Place]) -> None:
    """One scale an output channel, all equal: nothing changes, and tools that requantize find room for each."""
    for place in places:
        node = graph.producer[place.tensor]
        grid, channels = graph.grid(node), graph.constants[node.input[0]].shape[0]
        node.input[1] = _constant(graph, f"{node.input[1]}_of_{place.tensor}", np.repeat(grid.scale, channels))
        _set_zero_point(graph, node, np.repeat(grid.zero.reshape(()), channels))
        _set_axis(node, 0)
    _write(graph)


def store_float_bias(graph: Graph, places: Sequence[Place]) -> None:
    for place in places:
        node, grid = place.node, graph.grid(place.node)
        levels = graph.constants[node.input[0]]
        scale = _along(grid.scale, levels.ndim, grid.axis if levels.ndim > 1 else 0)
        _constant(graph, node.output[0], (levels.astype(np.float32) * scale).astype(np.float32))
        graph.nodes.remove(node)
    _write(graph)


def store_integer_bias(graph: Graph, places: Sequence[Place]) -> None:
    """int32 with the scale of the accumulator, input times weight."""
    for place in places:
        x, w = (graph.grid(graph.producer[name]).scale for name in place.node.input[:2])
        bias = graph.constants[place.tensor]
        scale = np.broadcast_to(np.asarray(x * w, np.float32), bias.shape).copy()
        levels = np.clip(np.rint(bias / scale), -(2**31), 2**31 - 129).astype(np.int32)
        name = f"{place.node.output[0]}_bias"
        inputs = [_constant(graph, f"{name}_int32", levels), _constant(graph, f"{name}_scale", scale)]
        rounded = helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=0)
        graph.nodes.insert(graph.nodes.index(place.node), rounded)
        place.node.input[2] = name
    _write(graph)


def round_both_sides(graph: Graph, places: Sequence[Place]) -> None:
    """The pair on one side of an upsampling by nearest neighbour on its other side too: it only copies values."""
    for place in places:
        node = place.node
        if graph.on_grid(node.input[0]):
            pair = graph.producer[node.input[0]]
            enlarged = f"{node.output[0]}_enlarged"
            new = _pair(enlarged, node.output[0], list(pair.input[1:]))
            graph.nodes[graph.nodes.index(node) + 1:graph.nodes.index(node) + 1] = new
            node.output[0] = enlarged
        else:
            after = graph.readers[node.output[0]][0]
            rounded = f"{node.output[0]}_to_enlarge"
            new = _pair(node.input[0], rounded, list(after.input[1:]))
            graph.nodes[graph.nodes.index(node):graph.nodes.index(node)] = new
            node.input[0] = rounded
    _write(graph)


def fold_batch_norms(graph: Graph, places: Sequence[Place]) -> None:
    """Into the scales of integer weights, or into float weights, of the convolution before it."""
    for place in places:
        conv = graph.producer[place.tensor]
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in place.node.input[1:5])
        factor = gamma / np.sqrt(variance + attribute(place.node, "epsilon", 1e-5))
        name = f"{conv.output[0]}_folded"
        if graph.weight_on_grid(conv.input[1]):
            _scale_levels(graph, conv, factor, name)
        else:
            weight = graph.constants[conv.input[1]]
            scaled = weight * factor.reshape([-1] + [1] * (weight.ndim - 1))
            conv.input[1] = _constant(graph, f"{name}_weight", scaled.astype(np.float32))
        bias = graph.constants[conv.input[2]] if len(conv.input) > 2 else np.zeros_like(mean)
        folded = _constant(graph, f"{name}_bias", ((bias - mean) * factor + beta).astype(np.float32))
        conv.input[:] = [*conv.input[:2], folded]
        conv.output[0] = place.node.output[0]
        graph.nodes.remove(place.node)
    _write(graph)


def is_nearest_with_one_pair(graph: Graph, place: Place) -> bool:
    """An upsampling that copies values, with a pair of one scale on exactly one side."""
    node = place.node
    before = graph.on_grid(node.input[0])
    return (attribute(node, "mode", b"nearest") == b"nearest" and len(graph.readers[node.output[0]]) > 0
            and before != graph.goes_to_grid(node.output[0]) and node.output[0] not in graph.outputs)


def is_behind_its_convolution(graph: Graph, place: Place) -> bool:
    """A batch norm that alone reads a convolution whose weights and bias are known."""
    conv = graph.producer.get(place.tensor)
    return (conv is not None and conv.op_type == "Conv" and len(graph.readers[place.tensor]) == 1
            and all(name in graph.constants for name in place.node.input[1:5])
            and (conv.input[1] in graph.constants or _levels_known(graph, conv.input[1]))
            and all(name in graph.constants for name in conv.input[2:]))


def _levels_known(graph: Graph, weight: str) -> bool:
    return graph.weight_on_grid(weight) and graph.producer[weight].input[0] in graph.constants


def _scale_levels(graph: Graph, conv: NodeProto, factor: Array, name: str) -> None:
    """Multiply weights on a grid channel by channel: their scales, and the sign of the levels where it is negative."""
    old = graph.producer[conv.input[1]]
    levels, grid = graph.constants[old.input[0]], graph.grid(old)
    along = [-1] + [1] * (levels.ndim - 1)
    sign = np.where(factor < 0, -1, 1).reshape(along)
    turned = np.clip(levels.astype(np.int16) * sign, -128, 127).astype(np.int8)
    scale = np.maximum(np.broadcast_to(grid.scale, factor.shape) * np.abs(factor), np.finfo(np.float32).tiny)
    inputs = [_constant(graph, f"{name}_levels", turned), _constant(graph, f"{name}_scale", scale.astype(np.float32))]
    graph.nodes.insert(graph.nodes.index(conv), helper.make_node("DequantizeLinear", inputs, [f"{name}_weight"],
                                                                 name=f"{name}_weight", axis=0))
    conv.input[1] = f"{name}_weight"


def _pair(source: str, result: str, grid: list[str]) -> list[NodeProto]:
    levels = f"{result}_levels"
    return [helper.make_node("QuantizeLinear", [source, *grid], [levels], name=levels),
            helper.make_node("DequantizeLinear", [levels, *grid], [result], name=f"{result}_rounded")]


def _set_zero_point(graph: Graph, node: NodeProto, zero: Array) -> None:
    name = _constant(graph, f"{node.output[0]}_zero_point", zero)
    node.input[:] = [node.input[0], node.input[1], name]


def _set_axis(node: NodeProto, axis: int) -> None:
    kept = [entry for entry in node.attribute if entry.name != "axis"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("axis", axis)])


def _along(values: Array, ndim: int, axis: int) -> Array:
    """One value a channel, shaped to go with a tensor; one value for all stays as it is."""
    return values.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)]) if values.ndim else values


def _constant(graph: Graph, name: str, values: Array) -> str:
    graph.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def _drop_identities(graph: Graph) -> None:
    """Let the readers of an Identity read what it copies; one that gives an output of the graph stays."""
    alias = {node.output[0]: node.input[0] for node in graph.of_type("Identity") if node.output[0] not in graph.outputs}
    graph.nodes = [node for node in graph.nodes if node.output[0] not in alias]
    for node in graph.nodes:
        for i in range(len(node.input)):
            while node.input[i] in alias:
                node.input[i] = alias[node.input[i]]


def _write(graph: Graph) -> None:
    """The nodes into the model, without constants that nobody reads."""
    target = graph.model.graph
    used = {name for node in graph.nodes for name in node.input} | graph.outputs
    graph.nodes = [node for node in graph.nodes if node.op_type != "Constant" or node.output[0] in used]
    tensors = list({tensor.name: tensor for tensor in target.initializer if tensor.name in used}.values())
    del target.node[:]
    target.node.extend(graph.nodes)
    del target.initializer[:]
    target.initializer.extend(tensors)
