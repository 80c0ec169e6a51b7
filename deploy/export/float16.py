"""An ONNX model in float16, with float32 inputs and outputs, for runtimes that take the precision from the file.

TensorRT 11 is one: it has no precision flags. Knows no network.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PAIR = ("QuantizeLinear", "DequantizeLinear")
FIRST_OPSET_WITH_FLOAT16_SCALES = 19  # of QuantizeLinear and DequantizeLinear


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model, computed in float16 but for what is on the int8 grid, whose scales become float16, too.

    Positive numbers too small for float16, such as the scale of a channel of zeros, become its smallest one.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted = convert_float_to_float16(copy, keep_io_types=True, op_block_list=[])
    assert isinstance(converted, onnx.ModelProto)
    _put_in_order(converted.graph)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def with_grid_in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that puts the same float16 numbers onto the same grid, but divides and rounds in float32.

    For ONNX Runtime on the CPU, to which such a file can only be shown like this: its QuantizeLinear of float16 cuts
    off instead of rounding (1.24), and its integer convolutions take float16 scales for something else.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(copy.graph.node):
        if node.op_type not in PAIR:
            nodes.append(node)
            continue
        scale, wide = f"scale_{number}_float32", f"value_{number}_float32"
        copy.graph.initializer.append(numpy_helper.from_array(scales[node.input[1]].astype(np.float32), scale))
        node.input[1] = scale
        if node.op_type == "QuantizeLinear":
            nodes += [helper.make_node("Cast", [node.input[0]], [wide], to=TensorProto.FLOAT), node]
            node.input[0] = wide
        else:
            nodes += [node, helper.make_node("Cast", [wide], [node.output[0]], to=TensorProto.FLOAT16)]
            node.output[0] = wide
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    return copy


def _put_in_order(graph: onnx.GraphProto) -> None:
    """Every node behind those that it reads: the converter leaves its casts at the end."""
    waiting = list(graph.node)
    ordered: list[onnx.NodeProto] = []
    made = {output for node in waiting for output in node.output}
    while waiting:
        ready = [node for node in waiting if made.isdisjoint(node.input)]
        blocked = [node for node in waiting if not made.isdisjoint(node.input)]
        assert ready, "the converter made a circle"
        made -= {output for node in ready for output in node.output}
        ordered, waiting = ordered + ready, blocked
    del graph.node[:]
    graph.node.extend(ordered)
