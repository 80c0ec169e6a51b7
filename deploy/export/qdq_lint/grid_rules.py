"""Rules on the grids themselves: scales, zero points, types, and where a value is rounded twice or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from deploy.export.qdq_lint.graph import PAIR, Graph, Place, attribute

FP16_MAX = 65504.0
UINT8_MIDDLE = 128


def bad_scale(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type(*PAIR):
        if node.input[1] in graph.constants:
            scale = graph.grid(node).scale
            bad = scale[~(np.isfinite(scale) & (scale > 0))]
            if bad.size:
                yield Place(node, node.input[1], f"scale {bad.flat[0]:g}")


def huge_scale(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("QuantizeLinear"):
        scale = graph.grid(node).scale
        if np.isfinite(scale).all() and scale.max(initial=0) * 127 > FP16_MAX:
            yield Place(node, node.input[1], f"scale {scale.max():g}, so values up to {scale.max() * 127:g}")


def centred_uint8(graph: Graph) -> Iterator[Place]:
    """Unsigned levels around 128: the levels of int8 around 0."""
    for node in graph.of_type(*PAIR):
        zero = graph.grid(node).zero
        if zero.dtype == np.uint8 and zero.size and (zero == UINT8_MIDDLE).all():
            yield Place(node, node.input[0], "uint8 with zero point 128")


def asymmetric(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type(*PAIR):
        zero = graph.grid(node).zero
        middle = UINT8_MIDDLE if zero.dtype == np.uint8 else 0
        if zero.dtype in (np.uint8, np.int8) and (zero != middle).any():
            odd = zero[zero != middle].flat[0]
            yield Place(node, node.input[0], f"{zero.dtype} with zero point {odd}")


def int8_activations(graph: Graph) -> Iterator[Place]:
    for node in graph.activation_pairs():
        zero = graph.grid(node).zero
        if zero.dtype == np.int8 and not zero.any():
            yield Place(node, node.input[0], "int8 activation with zero point 0")


def sixteen_bits(graph: Graph) -> Iterator[Place]:
    for node in graph.activation_pairs():
        if node.op_type == "QuantizeLinear" and graph.grid(node).zero.dtype in (np.int16, np.uint16):
            yield Place(node, node.input[0], f"{graph.grid(node).zero.dtype} activation")


def old_opset(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type(*PAIR):
        if graph.opset < 13 and (graph.grid(node).scale.ndim or any(a.name == "axis" for a in node.attribute)):
            yield Place(node, node.input[1], f"one scale a channel in opset {graph.opset}")


def equal_pairs_in_a_row(graph: Graph) -> Iterator[Place]:
    for node, first in _pairs_in_a_row(graph):
        if graph.grid(node).equals(graph.grid(first)):
            yield Place(node, node.input[0], "rounded twice to one grid")


def unequal_pairs_in_a_row(graph: Graph) -> Iterator[Place]:
    for node, first in _pairs_in_a_row(graph):
        one, two = graph.grid(first), graph.grid(node)
        if not one.equals(two):
            yield Place(node, node.input[0], f"scale {one.scale.max():.4g}, then {two.scale.max():.4g}")


def weights_stored_in_float(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("QuantizeLinear"):
        if node.input[0] in graph.constants:
            count = graph.constants[node.input[0]].size
            yield Place(node, node.input[0], f"{count} weights as float32 behind a QuantizeLinear")


def depthwise_per_tensor(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("Conv"):
        groups, weight = attribute(node, "group", 1), node.input[1]
        if groups > 1 and graph.weight_on_grid(weight) and graph.grid(graph.producer[weight]).scale.ndim == 0:
            yield Place(node, weight, f"one scale for {groups} groups")


def integer_bias(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("DequantizeLinear"):
        values = graph.constants.get(node.input[0])
        if values is not None and values.dtype == np.int32:
            yield Place(node, node.input[0], "int32 bias behind a DequantizeLinear")


def _pairs_in_a_row(graph: Graph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Each QuantizeLinear that reads a DequantizeLinear of an activation, with that one."""
    for node in graph.of_type("QuantizeLinear"):
        if graph.on_grid(node.input[0]):
            yield node, graph.producer[node.input[0]]
