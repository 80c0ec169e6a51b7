"""The header that is read without the onnx package, against that package; and files that are broken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from deploy.runtime.detectors.onnx_header import read_onnx_header
from edgekp.errors import ArtifactError
from tests.deploy.detectors.blob_detector import write_blob_detector


@pytest.fixture(scope="module")
def small_model() -> bytes:
    """Two operators read the input, whose width is free; a weight is also listed as an input, as old exports do."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, -1])
    weight = helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1, 3, 1, 1])
    nodes = [helper.make_node("Conv", ["images", "weight"], ["found"]), helper.make_node("Relu", ["images"], ["seen"]),
             helper.make_node("Sigmoid", ["found"], ["score"])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("score", "seen")]
    graph = helper.make_graph(nodes, "small", [images, weight], outputs,
                              [numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "weight")])
    return helper.make_model(graph, producer_name="a test").SerializeToString()


def test_the_header_says_what_the_file_says(small_model: bytes) -> None:
    header = read_onnx_header(small_model)
    assert header.inputs == {"images": (None, 3, 64, None)}
    assert header.element_types == {"images": TensorProto.FLOAT}
    assert header.outputs == ("score", "seen")
    assert header.readers == {"images": frozenset({"Conv", "Relu"})}


def test_the_header_is_that_which_the_onnx_package_reads(tmp_path: Path) -> None:
    model = onnx.load(write_blob_detector(tmp_path / "blob.onnx", (96, 160)))
    header = read_onnx_header(model.SerializeToString())
    assert header.inputs == {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
                             for value in model.graph.input}
    assert header.outputs == tuple(value.name for value in model.graph.output)
    assert header.readers == {"images": frozenset(node.op_type for node in model.graph.node if "images" in node.input)}


def test_a_file_that_breaks_off_anywhere_is_refused_or_read(small_model: bytes) -> None:
    for length in range(len(small_model)):
        with suppress(ArtifactError):
            read_onnx_header(small_model[:length])
    with pytest.raises(ArtifactError, match="damaged"):
        read_onnx_header(small_model[:-1])


@settings(deadline=None)
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(small_model: bytes, at: int, byte: int) -> None:
    changed = bytearray(small_model)
    changed[at % len(changed)] = byte
    with suppress(ArtifactError):
        read_onnx_header(bytes(changed))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with suppress(ArtifactError):
        read_onnx_header(data)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x80" * 40, "model of words".encode("utf-16")])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        read_onnx_header(data)
