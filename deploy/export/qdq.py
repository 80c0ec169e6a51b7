"""Quantize/dequantize pairs in an ONNX graph: integer weights stored as integers, and one grid spelled per target.

The same symmetric grid can be written as int8 with zero point 0 (TensorRT accepts nothing else) and as uint8 with
zero point 128 (ONNX Runtime's x86 kernels are fast with nothing else). Scales and values are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from deploy.export.int16 import is_int16
from edgekp.errors import ArtifactError

Spell = Callable[[onnx.ModelProto], None]
UINT8_ZERO = 128
PAIR = ("QuantizeLinear", "DequantizeLinear")


def store_integer_weights(model: onnx.ModelProto) -> None:
    """Make the exporter's graph plain: constants as initializers, and weights as int8 instead of float, in place."""
    _tidy(model.graph)
    constants = _constants(model.graph)
    kept = []
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            kept.append(node)
            continue
        weight, scale = constants[node.input[0]], constants[node.input[1]]
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        steps = (np.float32(1) / scale).reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        levels = np.clip(np.rint(weight * steps), -128, 127).astype(np.int8)  # torch multiplies, which decides ties
        _add_constant(model.graph, node.output[0], levels)
    _replace_nodes(model.graph, kept)


def spell_int8(model: onnx.ModelProto) -> None:
    """The exporter's own spelling: int8 activations, zero point 0, biases in float, as TensorRT wants it.

    Raises:
        ArtifactError: An activation has 16 bits.
    """
    wide = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear" and is_int16(node)]
    if wide:
        raise ArtifactError(f"{len(wide)} activations have 16 bits, such as {wide[0]}; TensorRT has no 16-bit "
                            "integers; leave optimize.quantize.int16 out and name their layers as keep_float")


def spell_uint8(model: onnx.ModelProto) -> None:
    """uint8 activations with zero point 128 and int32 biases, in place.

    ONNX Runtime folds a ReLU into the convolution only where the zero point is the smallest value. With 128 it
    would leave the ReLU, and with it the convolution, in float: 4.0 instead of 1.6 ms for HRNet-lite 128 x 128 on
    one core. On the grid, a ReLU is the maximum with the zero point, which is computed in integers: by Clip, since Max
    takes 1.2 times as long for the whole network, and ONNX Runtime 1.23 has none of bytes.
    """
    graph, zero = model.graph, "uint8_zero_point"
    _add_constant(graph, zero, np.array(UINT8_ZERO, np.uint8))
    constants = _constants(graph)
    relu_of = {node.output[0]: node for node in graph.node if node.op_type == "Relu"}
    readers = _count_readers(graph.node)
    kept: list[NodeProto] = []
    for node in graph.node:
        kept.append(node)
        if node.op_type not in PAIR or node.input[0] in constants or is_int16(node):
            continue
        node.input[2] = zero
        relu = relu_of.get(node.input[0])
        if node.op_type == "QuantizeLinear" and relu is not None and readers[relu.output[0]] == 1:
            rounded = node.output[0]
            node.input[0], node.output[0] = relu.input[0], f"{rounded}_before_relu"
            kept.append(helper.make_node("Clip", [node.output[0], zero], [rounded], name=f"{rounded}_relu"))
            kept.remove(relu)
    _replace_nodes(graph, kept)
    _quantize_biases(graph)
    _keep_resize_in_float(graph)


SPELLINGS: dict[str, Spell] = {"int8": spell_int8, "uint8": spell_uint8}


def _quantize_biases(graph: onnx.GraphProto) -> None:
    """Biases of integer convolutions as int32 with scale input x weight, the accumulator's own grid."""
    constants = _constants(graph)
    dequantize = {node.output[0]: node for node in graph.node
                  if node.op_type == "DequantizeLinear" and not is_int16(node)}
    kept: list[NodeProto] = []
    for node in graph.node:
        sources = [dequantize.get(name) for name in node.input[:2]]
        if node.op_type == "Conv" and len(node.input) == 3 and None not in sources:
            input_scale, weight_scale = (constants[source.input[1]] for source in sources if source is not None)
            scale = (input_scale * weight_scale).astype(np.float32)
            levels = np.rint(constants[node.input[2]] / scale)
            name = f"{node.output[0]}_bias"
            _add_constant(graph, f"{name}_int32", np.clip(levels, -(2**31), 2**31 - 1).astype(np.int32))
            _add_constant(graph, f"{name}_scale", scale)
            inputs = [f"{name}_int32", f"{name}_scale"]
            kept.append(helper.make_node("DequantizeLinear", inputs, [name], axis=0, name=name))
            node.input[2] = name
        kept.append(node)
    _replace_nodes(graph, kept)


def _keep_resize_in_float(graph: onnx.GraphProto) -> None:
    """Give what a Resize enlarges a scale that differs in the last bit, so that ONNX Runtime does not merge the pairs.

    Its integer Resize cuts off instead of rounding: half a step of bias at every upsampling, a mean error against
    the float network of 0.0071 instead of 0.0058 (HRNet-lite, of the largest output), and no faster (1.44, 1.32 ms).
    """
    constants = _constants(graph)
    resized = {node.output[0] for node in graph.node if node.op_type == "Resize"}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in resized:
            resized.add(node.output[0])
        elif node.op_type != "DequantizeLinear" or node.input[0] not in resized:
            continue
        scale = f"{node.output[0]}_scale"
        _add_constant(graph, scale, np.nextafter(constants[node.input[1]], np.float32(np.inf)))
        node.input[1] = scale


def _tidy(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers; Identity nodes go."""
    outputs = {output.name for output in graph.output}
    alias: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = alias.get(name, name)
        if node.op_type == "Constant":
            _add_constant(graph, node.output[0], numpy_helper.to_array(node.attribute[0].t))
        elif node.op_type == "Identity" and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _add_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _count_readers(nodes: Iterable[NodeProto]) -> dict[str, int]:
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    return readers


def _replace_nodes(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    """Set the nodes and drop the initializers that none of them reads."""
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
