"""Functions and methods of torch as operators of TFLite: arithmetic, reductions, shapes. Knows no module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor as TorchTensor
from torch import fx

from deploy.export.tflite_file import Tensor
from deploy.export.tflite_graph import Graph, Value
from deploy.export.tflite_layers import LAYERS, relu
from edgekp.sample import Float
from train.models.shuffle import _dealt_out

Function = Callable[..., Any]  # (graph, node, *arguments of the torch function)
ON_GRID = ("ADD", "MUL")  # have integer kernels that take any scales


def arithmetic(kind: str) -> Function:
    """A sum, product or quotient of values, parameters and numbers, with torch's broadcasting."""
    def write(graph: Graph, node: fx.Node, first: Any, second: Any) -> Any:
        if not isinstance(first, Value) and not isinstance(second, Value):
            return {"ADD": np.add, "MUL": np.multiply, "DIV": np.divide, "SUB": np.subtract}[kind](first, second)
        ending = graph.ending(node)
        both = [x for x in (first, second) if isinstance(x, Value)]
        integer = (len(both) == 2 and kind in ON_GRID and ending.scale is not None
                   and all(x.scale is not None for x in both))
        operands = [graph.in_float(x) if isinstance(x, Value) and not integer else x for x in (first, second)]
        tensors, order = _aligned(graph, operands, node.name)
        shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
        out = graph.file.activation(shape, node.name, ending.scale if integer else None)
        graph.file.operator(kind, tensors, [out], fusedActivationFunction=ending.fused)
        return graph.finish(ending, Value(out, order))
    return write


def addcmul(graph: Graph, node: fx.Node, base: Any, first: Any, second: Any) -> Value:
    product = _binary(graph, f"{node.name}_product", "MUL", first, second)
    return _binary(graph, node.name, "ADD", product, base)


def square(graph: Graph, node: fx.Node, x: Value) -> Value:
    return _binary(graph, node.name, "MUL", x, x)


def clamp_min(graph: Graph, node: fx.Node, x: Value, smallest: float) -> Value:
    return _binary(graph, node.name, "MAXIMUM", x, smallest)


def matmul(graph: Graph, node: fx.Node, first: Value, second: Value) -> Value:
    tensors = [graph.stored(graph.in_float(x), range(len(x.order))) for x in (first, second)]
    out = graph.file.activation((*tensors[0].shape[:-1], tensors[1].shape[-1]), node.name)
    graph.file.operator("BATCH_MATMUL", tensors, [out])
    return Value(out, tuple(range(len(out.shape))))


def concatenate(graph: Graph, node: fx.Node, values: Sequence[Value], dim: int = 0) -> Value:
    """Side by side; on the grid, each part is first brought to the scale of the whole."""
    ending, order = graph.ending(node), values[0].order
    scale = ending.scale if all(x.scale is not None for x in values) else None
    parts = [graph.in_float(x) if scale is None else graph.on_grid(x, scale) for x in values]
    tensors, axis = [graph.stored(x, order) for x in parts], order.index(dim % len(order))
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    out = graph.file.activation(shape, node.name, scale)
    graph.file.operator("CONCATENATION", tensors, [out], axis=axis, fusedActivationFunction=ending.fused)
    return graph.finish(ending, Value(out, order))


def chunk(graph: Graph, node: fx.Node, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    count = x.shape[dim]
    if count % chunks:
        raise graph.refuse(node, f"{count} channels in {chunks} unequal parts")
    return split(graph, node, x, [count // chunks] * chunks, dim)


def split(graph: Graph, node: fx.Node, x: Value, sizes: int | Sequence[int], dim: int = 0) -> tuple[Value, ...]:
    sizes = [sizes] * (x.shape[dim] // sizes) if isinstance(sizes, int) else list(sizes)
    axis = x.order.index(dim % len(x.order))
    outs = []
    for i, size in enumerate(sizes):
        shape = list(x.stored.shape)
        shape[axis] = size
        outs.append(graph.file.activation(shape, f"{node.name}_{i}", x.scale))
    if len(set(sizes)) == 1:
        place = graph.file.constant(np.array(axis, np.int32), f"{node.name}_axis")
        graph.file.operator("SPLIT", [place, x.stored], outs, numSplits=len(sizes))
    else:
        for i, out in enumerate(outs):
            begin = [sum(sizes[:i]) if j == axis else 0 for j in range(len(out.shape))]
            graph.file.operator("SLICE", [x.stored, graph.numbers(begin), graph.numbers(out.shape)], [out])
    return tuple(Value(out, x.order) for out in outs)


def reduction(kind: str) -> Function:
    """A mean, sum or maximum over axes, in float."""
    def write(graph: Graph, node: fx.Node, x: Value, dim: int | Sequence[int], keepdim: bool = False) -> Value:
        source, rank = graph.in_float(x), len(x.order)
        dims = [axis % rank for axis in ((dim,) if isinstance(dim, int) else dim)]
        axes = sorted(source.order.index(axis) for axis in dims)
        shape = [1 if i in axes else side for i, side in enumerate(source.stored.shape) if keepdim or i not in axes]
        out = graph.file.activation(shape, node.name)
        graph.file.operator(kind, [source.stored, graph.numbers(axes)], [out], keepDims=keepdim)
        kept = [axis for axis in range(rank) if axis not in dims]
        order = source.order if keepdim else tuple(kept.index(axis) for axis in source.order if axis in kept)
        return Value(out, order)
    return write


def softmax(graph: Graph, node: fx.Node, x: Value, dim: int) -> Value:
    """Over one axis, which is stored last."""
    axis = dim % len(x.order)
    order = (*(other for other in x.order if other != axis), axis)
    source = graph.stored(graph.in_float(x), order)
    out = graph.file.activation(source.shape, node.name)
    graph.file.operator("SOFTMAX", [source], [out], beta=1.0)
    return Value(out, order)


def unary(kind: str) -> Function:
    def write(graph: Graph, node: fx.Node, x: Value) -> Value:
        source = graph.in_float(x)
        out = graph.file.activation(source.stored.shape, node.name)
        graph.file.operator(kind, [source.stored], [out])
        return Value(out, source.order)
    return write


def function_relu(graph: Graph, node: fx.Node, x: Value, inplace: bool = False) -> Value:
    return relu(graph, node, None, x)


def same(graph: Graph, node: fx.Node, x: Value) -> Value:
    return x


def reshape(graph: Graph, node: fx.Node, x: Value, *shape: Any) -> Value:
    return graph.reshape(x, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)


def flatten(graph: Graph, node: fx.Node, x: Value, start_dim: int = 0) -> Value:
    return graph.reshape(x, (*x.shape[:start_dim], -1))


def permute(graph: Graph, node: fx.Node, x: Value, *dims: Any) -> Value:
    """Only noted: what reads it asks for the order that it needs."""
    axes = list(dims[0] if len(dims) == 1 else dims)
    return Value(x.stored, tuple(axes.index(axis) for axis in x.order))


def transpose(graph: Graph, node: fx.Node, x: Value, first: int, second: int) -> Value:
    axes = list(range(len(x.order)))
    axes[first], axes[second] = axes[second], axes[first]
    return permute(graph, node, x, axes)


def squeeze(graph: Graph, node: fx.Node, x: Value, dim: int) -> Value:
    place = dim % len(x.order)
    return graph.reshape(x, (*x.shape[:place], *x.shape[place + 1:]))


def unsqueeze(graph: Graph, node: fx.Node, x: Value, dim: int) -> Value:
    place = dim % (len(x.order) + 1)
    return graph.reshape(x, (*x.shape[:place], 1, *x.shape[place:]))


def item(graph: Graph, node: fx.Node, x: Any, index: Any) -> Any:
    """One of several values, part of a parameter, or new axes of length 1."""
    if not isinstance(x, Value):
        return x[index]
    places = index if isinstance(index, tuple) else (index,)
    if any(place is not None and place != slice(None) for place in places):
        raise graph.refuse(node, f"the part {index} of a value")
    rest = iter(x.shape)
    return graph.reshape(x, (*(1 if place is None else next(rest) for place in places), *rest))


def deal_out(graph: Graph, node: fx.Node, x: Value, groups: int) -> Value:
    """Channel shuffle: the last axis seen as (groups, channels of a group) and transposed."""
    source = graph.nhwc(x)
    _, h, w, channels = source.shape
    apart = graph.reshaped(source, (1, h * w, groups, channels // groups))
    dealt = graph.file.activation((1, h * w, channels // groups, groups), node.name, x.scale)
    graph.file.operator("TRANSPOSE", [apart, graph.numbers([0, 1, 3, 2])], [dealt])
    return Value(graph.reshaped(dealt, source.shape), (0, 2, 3, 1))


FUNCTIONS: dict[str, Function] = {
    "add": arithmetic("ADD"), "iadd": arithmetic("ADD"), "mul": arithmetic("MUL"), "truediv": arithmetic("DIV"),
    "div": arithmetic("DIV"), "sub": arithmetic("SUB"), "addcmul": addcmul, "square": square, "clamp_min": clamp_min,
    "matmul": matmul, "cat": concatenate, "chunk": chunk, "split": split, "mean": reduction("MEAN"),
    "sum": reduction("SUM"), "amax": reduction("REDUCE_MAX"), "softmax": softmax, "sigmoid": unary("LOGISTIC"),
    "sqrt": unary("SQRT"), "relu": function_relu, "float": same, "contiguous": same, "reshape": reshape,
    "view": reshape, "flatten": flatten, "permute": permute, "transpose": transpose, "squeeze": squeeze,
    "unsqueeze": unsqueeze, "getitem": item, _dealt_out.__name__: deal_out}


def write_node(graph: Graph, node: fx.Node, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """Write what one node computes and give its value.

    Raises:
        ArtifactError: A layer, function or option that has no counterpart.
    """
    layer = graph.layer(node)
    if layer is not None:
        if type(layer) not in LAYERS:
            raise graph.refuse(node, f"no counterpart of {type(layer).__name__}")
        return LAYERS[type(layer)](graph, node, layer, *arguments)
    name = node.target if isinstance(node.target, str) else node.target.__name__
    if name not in FUNCTIONS:
        raise graph.refuse(node, f"no counterpart of '{name}'")
    try:
        return FUNCTIONS[name](graph, node, *arguments, **keywords)
    except TypeError as error:
        raise graph.refuse(node, f"'{name}' with arguments that are not known here ({error})") from error


def constant_of(value: TorchTensor) -> Float:
    return np.asarray(value.detach().cpu().numpy(), np.float32)


def _binary(graph: Graph, name: str, kind: str, first: Any, second: Any) -> Value:
    operands = [graph.in_float(x) if isinstance(x, Value) else x for x in (first, second)]
    tensors, order = _aligned(graph, operands, name)
    out = graph.file.activation(np.broadcast_shapes(*(tensor.shape for tensor in tensors)), name)
    graph.file.operator(kind, tensors, [out])
    return Value(out, order)


def _aligned(graph: Graph, operands: Sequence[Any], name: str) -> tuple[list[Tensor], tuple[int, ...]]:
    """The operands with their axes stored in one order: that of the largest value."""
    rank = max(np.ndim(x) if not isinstance(x, Value) else len(x.order) for x in operands)
    full = [graph.reshape(x, (1,) * (rank - len(x.order)) + x.shape) if isinstance(x, Value) and len(x.order) < rank
            else x for x in operands]
    order = max((x for x in full if isinstance(x, Value)), key=lambda x: np.prod(x.shape)).order
    tensors = []
    for i, x in enumerate(full):
        if isinstance(x, Value):
            tensors.append(graph.stored(x, order))
            continue
        array = np.asarray(x, np.float32)
        array = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(order) if array.ndim else array
        tensors.append(graph.file.constant(array, f"{name}_constant_{i}"))
    return tensors, order
