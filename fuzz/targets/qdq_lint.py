"""Quantized graphs as ``qdq_lint`` takes them: read, judged for every target, and mended."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from deploy.export.qdq_lint.foreign_model import graph_of, read_model
from deploy.export.qdq_lint.mend import _apply_all
from deploy.export.qdq_lint.rules import TARGETS, lint
from fuzz.target import Read, Target

NUMBERS = (0, 1, 2, 3, 7, 13, 17, 20, 10**6, -1)


def seed() -> bytes:
    """A convolution between grids, its weight on one."""
    constants = {"w8": np.ones((4, 3, 1, 1), np.int8), "ws": np.full(4, 0.1, np.float32), "wz": np.zeros(4, np.int8),
                 "s": np.float32(0.02), "z": np.int8(3), "bias": np.zeros(4, np.float32)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x8"]),
             helper.make_node("DequantizeLinear", ["x8", "s", "z"], ["xq"]),
             helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
             helper.make_node("Conv", ["xq", "w", "bias"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("QuantizeLinear", ["r", "s", "z"], ["r8"]),
             helper.make_node("DequantizeLinear", ["r8", "s", "z"], ["rq"]),
             helper.make_node("Add", ["rq", "xk"], ["y"]),
             helper.make_node("Constant", [], ["xk"], value=numpy_helper.from_array(np.ones((1, 4, 1, 1), np.float32)))]
    nodes.insert(0, nodes.pop())
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
                              [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return data


def reader(folder: Path) -> Read:
    path = folder / "model.onnx"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_model(path)
        model = read_model(path)
        with graph_of(path):
            lint(model, TARGETS, ())
            for target in TARGETS:
                result = onnx.ModelProto()
                result.CopyFrom(model)
                _apply_all(result, target, ())  # without the proof that it is equal, which runs it in ONNX Runtime
    return read


def mutate(data: bytes, rng: Random) -> bytes:
    """Change one field of one message, so that what comes out is a graph still."""
    try:
        graph = onnx.ModelProto.FromString(data)
        _change_one(graph, rng)
    except (DecodeError, UnicodeDecodeError):  # no graph, or names that are no text
        return data
    return bytes(graph.SerializeToString())


def _change_one(graph: onnx.ModelProto, rng: Random) -> None:
    fields = list(_fields(graph))
    if not fields:
        return
    message, field, value = rng.choice(fields)
    kind = rng.randrange(4)
    if kind == 0:
        message.ClearField(field.name)
    elif not isinstance(value, (bool, int, float, str, bytes, Message)):  # repeated
        _change_repeated(value, rng)
    elif isinstance(value, (bool, int)):
        setattr(message, field.name, rng.choice((0, 1, 2, 3)) if field.enum_type else rng.choice(NUMBERS))
    elif isinstance(value, str):
        setattr(message, field.name, rng.choice(_names(graph)))


def _fields(message: Message) -> Any:
    """(message, field, value) of all that is set."""
    for field, value in message.ListFields():
        yield message, field, value
        inner = [value] if isinstance(value, Message) else [] if isinstance(value, (str, bytes, int, float)) else value
        for entry in inner:
            if isinstance(entry, Message):
                yield from _fields(entry)


def _change_repeated(values: Any, rng: Random) -> None:
    at = rng.randrange(len(values))
    if rng.random() < 0.5:
        del values[at]
    elif isinstance(values[at], Message):
        values.add().CopyFrom(values[at])
    else:
        values[at] = values[rng.randrange(len(values))]


def _names(graph: onnx.ModelProto) -> list[str]:
    nodes = graph.graph.node
    return ["", "y", *(name for node in nodes for name in (*node.input, *node.output, node.op_type))]


TARGET = Target((seed(),), reader, (b"QuantizeLinear", b"DequantizeLinear", b"Conv", b"Relu", b"axis"), mutate)
