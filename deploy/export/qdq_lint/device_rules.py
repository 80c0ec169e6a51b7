"""Rules on what a device or its compiler cannot do whatever the grid: NVIDIA's DLA, and TFLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnx import NodeProto

from deploy.export.qdq_lint.graph import PAIR, Graph, Place, attribute

# "DLA Supported Layers and Restrictions" of TensorRT's documentation, for Orin.
DLA_OPERATORS = frozenset((
    "Conv", "ConvTranspose", "Relu", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "PRelu", "MaxPool", "AveragePool",
    "GlobalAveragePool", "BatchNormalization", "Add", "Sub", "Mul", "Max", "Min", "Concat", "Resize", "Softmax",
    "Slice", "Abs", "LRN", "Identity", "Constant", "Reshape", "Flatten", *PAIR))


def dla_layer(graph: Graph) -> Iterator[Place]:
    for node in graph.nodes:
        if node.op_type not in DLA_OPERATORS:
            yield Place(node, node.output[0], f"{node.op_type} is no layer of the DLA")
            continue
        broken = DLA_LIMITS[node.op_type](graph, node) if node.op_type in DLA_LIMITS else ""
        if broken:
            yield Place(node, node.output[0], broken)


def dynamic_shape(graph: Graph) -> Iterator[Place]:
    for value in graph.model.graph.input:
        free = [d.dim_param or "?" for d in value.type.tensor_type.shape.dim if not d.HasField("dim_value")]
        if value.name not in graph.constants and free:
            yield Place(graph.readers[value.name][0] if graph.readers[value.name] else NodeProto(), value.name,
                        f"free dimensions {', '.join(free)}")


def nearest_resize(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("Resize", "Upsample"):
        if attribute(node, "mode", b"nearest") == b"nearest":
            yield Place(node, node.output[0], "upsampling by nearest neighbour")


def _conv(_: Graph, node: NodeProto) -> str:
    limits = {"kernel_shape": (1, 32), "dilations": (1, 32), "strides": (1, 8), "pads": (0, 31)}
    return _outside(node, limits)


def _deconv(_: Graph, node: NodeProto) -> str:
    if attribute(node, "group", 1) != 1:
        return f"ConvTranspose with {attribute(node, 'group', 1)} groups, the DLA has 1"
    return _outside(node, {"kernel_shape": (1, 32), "dilations": (1, 1), "strides": (1, 32), "pads": (0, 0)})


def _pool(_: Graph, node: NodeProto) -> str:
    return _outside(node, {"kernel_shape": (1, 8), "pads": (0, 7), "strides": (1, 16)})


def _concat(_: Graph, node: NodeProto) -> str:
    axis = attribute(node, "axis", 1)
    return "" if axis in (1, -3) else f"Concat along axis {axis}, the DLA joins channels only"


def _resize(graph: Graph, node: NodeProto) -> str:
    scales = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if scales is None or scales.size == 0:
        return ""
    largest = 32 if attribute(node, "mode", b"nearest") == b"nearest" else 4
    fits = scales.size == 4 and (scales[:2] == 1).all() and all(s in range(1, largest + 1) for s in scales[2:].tolist())
    return "" if fits else f"Resize by {scales.tolist()}, the DLA takes whole factors of the sides up to {largest}"


def _outside(node: NodeProto, limits: dict[str, tuple[int, int]]) -> str:
    for name, (low, high) in limits.items():
        values = attribute(node, name, [])
        if not all(low <= value <= high for value in values):
            return f"{node.op_type} with {name} {list(values)}, the DLA has {low} to {high}"
    return ""


DLA_LIMITS: dict[str, Callable[[Graph, NodeProto], str]] = {
    "Conv": _conv, "ConvTranspose": _deconv, "MaxPool": _pool, "AveragePool": _pool, "Concat": _concat,
    "Resize": _resize}
