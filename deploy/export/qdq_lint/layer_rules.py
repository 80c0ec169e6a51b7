"""Rules on layers: where the chain of integers breaks, and where a runtime falls back to float."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deploy.export.qdq_lint.graph import Graph, Grid, Place

SMALLEST_SHARE = 1 / 256  # an int8 value of 128 such steps is half a step of the sum
# ONNX Runtime has integer kernels for Sigmoid and LeakyRelu, if they stand between two roundings of their own.
CURVES = ("PRelu", "HardSwish", "HardSigmoid", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Tanh")
PAIRED_CURVES = ("Sigmoid", "LeakyRelu")


def add_scales(graph: Graph) -> Iterator[Place]:
    """Additions of which one input vanishes, or is not rounded beside one that is."""
    for node in graph.of_type("Add"):
        grids = _input_grids(graph, node.input)
        if len(grids) < len(node.input):
            others = [name for name in node.input if not graph.on_grid(name) and not graph.is_constant(name)]
            if grids and others and graph.is_between_grids(node):
                yield Place(node, others[0], "one input is rounded, the other is float")
            continue
        rounded = graph.rounded_result(node)
        if rounded is not None:
            result = graph.grid(graph.readers[rounded][0]).scale
            for name, grid in grids.items():
                if grid.scale.max() < result.max() * SMALLEST_SHARE:
                    yield Place(node, name, f"scale {grid.scale.max():.4g} in a sum of scale {result.max():.4g}")


def concat_scales(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("Concat"):
        grids = list(_input_grids(graph, node.input).values())
        different = next((grid for grid in grids if not grid.equals(grids[0])), None)
        if different is not None:
            yield Place(node, node.output[0], f"scales {grids[0].scale.max():.4g} and {different.scale.max():.4g}")
        elif grids and len(grids) < len(node.input) and graph.is_between_grids(node):
            yield Place(node, node.output[0], f"{len(grids)} of {len(node.input)} inputs are rounded")


def resize_in_float(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("Resize", "Upsample"):
        before, after = graph.on_grid(node.input[0]), graph.goes_to_grid(node.output[0])
        if not (before and after) and graph.is_between_grids(node):
            missing = " and ".join(side for side, there in (("before", before), ("after", after)) if not there)
            yield Place(node, node.output[0], f"not rounded {missing}")


def deconv_in_float(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("ConvTranspose"):
        parts = {"input": graph.on_grid(node.input[0]), "weights": graph.weight_on_grid(node.input[1]),
                 "result": graph.rounded_result(node) is not None}
        missing = [part for part, there in parts.items() if not there]
        if missing and graph.is_between_grids(node):
            yield Place(node, node.output[0], f"in float: {', '.join(missing)}")


def batch_norm(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("BatchNormalization"):
        source = graph.producer.get(node.input[0])
        yield Place(node, node.input[0], f"behind {source.op_type if source is not None else 'an input'}")


def gate_in_float(graph: Graph) -> Iterator[Place]:
    """A product of a rounded tensor with one that is not, as in squeeze and excitation."""
    for node in graph.of_type("Mul"):
        rounded = [graph.on_grid(name) for name in node.input]
        gates = [name for name in node.input if not graph.on_grid(name) and not graph.is_constant(name)]
        if any(rounded) and gates and graph.is_between_grids(node):
            yield Place(node, gates[0], "a rounded tensor times a float gate")


def half_quantized(graph: Graph) -> Iterator[Place]:
    """Rounded activations with float weights, or the other way round; a layer at the end may be float on purpose."""
    for node in graph.of_type("Conv", "Gemm", "MatMul"):
        if not graph.is_constant(node.input[1]):
            continue
        integer_input, integer_weight = graph.on_grid(node.input[0]), graph.weight_on_grid(node.input[1])
        if integer_input and not integer_weight and graph.rounded_result(node) is not None:
            yield Place(node, node.input[1], "float weights between rounded activations")
        elif integer_weight and not integer_input:
            yield Place(node, node.input[0], "integer weights, float activations")


def float_bias(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type("Conv"):
        integer = graph.on_grid(node.input[0]) and graph.weight_on_grid(node.input[1])
        if integer and len(node.input) > 2 and node.input[2] in graph.constants and graph.rounded_result(node):
            yield Place(node, node.input[2], "float bias of an integer convolution")


def activation_between(graph: Graph) -> Iterator[Place]:
    for node in graph.of_type(*CURVES, *PAIRED_CURVES):
        paired = graph.on_grid(node.input[0]) and graph.goes_to_grid(node.output[0])
        if (node.op_type in CURVES or not paired) and graph.is_between_grids(node):
            yield Place(node, node.output[0], f"{node.op_type} between rounded layers")


def relu_in_float(graph: Graph) -> Iterator[Place]:
    """A ReLU before a rounding whose zero point is not the smallest level."""
    for node in graph.of_type("Relu"):
        if graph.goes_to_grid(node.output[0]):
            zero = graph.grid(graph.readers[node.output[0]][0]).zero
            if zero.dtype == np.uint8 and zero.any():
                yield Place(node, node.output[0], f"ReLU before uint8 with zero point {zero.max()}")


def _input_grids(graph: Graph, names: list[str]) -> dict[str, Grid]:
    return {name: graph.grid(graph.producer[name]) for name in names if graph.on_grid(name)}
