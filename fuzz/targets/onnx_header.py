"""The header of a detector's ONNX file, and what is made of its inputs."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from deploy.runtime.detectors.detector import size_and_name_of_input
from deploy.runtime.detectors.onnx_header import read_onnx_header
from fuzz.target import Read, Target


def model() -> bytes:
    """One input whose width is free, two operators that read it."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, "w"])
    weight = helper.make_tensor("k", TensorProto.FLOAT, [1], [1.0])
    nodes = [helper.make_node("Mul", ["images", "k"], ["a"]), helper.make_node("Relu", ["images"], ["b"])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    data: bytes = helper.make_model(helper.make_graph(nodes, "g", [images], outputs, [weight])).SerializeToString()
    return data


def reader(_folder: Path) -> Read:
    return lambda data: size_and_name_of_input(read_onnx_header(data))


TARGET = Target((model(),), reader, (b"\x3a\x7f", b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x5a\x02", b"\x62\x02",
                                     b"\xff" * 10, b"\x08\xff\xff\xff\xff\x07", b"images"))
