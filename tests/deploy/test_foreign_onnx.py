"""ONNX files of others at the door: weights come from the file, or from plain files in its folder, and nowhere else."""

from __future__ import annotations

import os
import resource
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.faults.external_data import VARIANTS, external_data, usual, values, verdict, write_variant
from benchmarks.faults.outcome import Outcome
from deploy.export.qdq_lint import foreign_model
from deploy.export.qdq_lint.__main__ import main as lint_command
from deploy.export.qdq_lint.foreign_model import read_model, tensors
from deploy.runtime.detectors import open_detector
from deploy.runtime.detectors.onnx_header import read_onnx_header
from edgekp.errors import ArtifactError


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_no_door_reads_a_file_outside_of_the_models_folder(tmp_path: Path, name: str, nested: bool) -> None:
    assert verdict(write_variant(name, tmp_path, nested=nested)) == "survived"


def test_the_secret_would_be_read_without_the_doors(tmp_path: Path) -> None:
    path = write_variant("beside the model", tmp_path)
    (path.parent / "weights.bin").unlink()
    os.link(tmp_path / "outside" / "secret.bin", path.parent / "weights.bin")
    with pytest.raises(ArtifactError, match="a link to somewhere else"):
        read_model(path)
    try:
        np.testing.assert_array_equal(usual(path), values() + 1000)
    except onnx.checker.ValidationError:
        pytest.skip("this onnx refuses hard links, too")


def test_weights_beside_a_model_are_taken_in_as_onnx_does(tmp_path: Path) -> None:
    path = write_variant("beside the model", tmp_path)
    model = read_model(path)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors(model) if tensor.name}
    np.testing.assert_array_equal(found["weight"], usual(path))
    onnx.checker.check_model(model)
    read_onnx_header(model.SerializeToString())  # whole in itself


def test_the_experiment_tries_what_it_says() -> None:
    assert external_data(len(VARIANTS), 3) == Outcome("external-data", len(VARIANTS), len(VARIANTS), 0, 0)


def hidden(tensor: TensorProto, where: str) -> onnx.ModelProto:
    """A model with a tensor in one of the places where tensors may be."""
    sparse = onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.zeros(1, np.int64)), dims=[4])
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    inner = helper.make_graph([constant], "inner", [], [])
    nodes = {"attribute": constant, "list": helper.make_node("Custom", [], ["c"], values=[tensor]),
             "sparse attribute": helper.make_node("Constant", [], ["c"], sparse_value=sparse),
             "subgraph": helper.make_node("If", ["x"], ["c"], then_branch=inner, else_branch=inner),
             "graphs": helper.make_node("Custom", [], ["c"], bodies=[inner])}
    graph = helper.make_graph([nodes[where]] if where in nodes else [], "graph", [], [])
    if where == "initializer":
        graph.initializer.append(tensor)
    if where == "sparse initializer":
        graph.sparse_initializer.append(sparse)
    functions = [helper.make_function("d", "f", [], ["c"], [constant], [helper.make_opsetid("", 17)])]
    model = helper.make_model(graph, functions=functions if where == "function" else [])
    if where == "training":
        model.training_info.add().algorithm.CopyFrom(inner)
    return model


PLACES = ("initializer", "attribute", "list", "sparse attribute", "sparse initializer", "subgraph", "graphs",
          "function", "training")


@pytest.mark.parametrize("where", PLACES)
def test_outside_weights_are_found_wherever_they_hide(tmp_path: Path, where: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    model = hidden(tensor, where)
    with pytest.raises(ArtifactError, match="in another file"):
        read_onnx_header(model.SerializeToString())
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="expected a file in the model's folder"):
        read_model(tmp_path / "a.onnx")
    read_onnx_header(hidden(numpy_helper.from_array(np.zeros(1, np.float32), "w"), where).SerializeToString())


def nested_graphs(depth: int) -> bytes:
    """Graphs in attributes in nodes in graphs, by hand: protobuf itself writes none this deep."""
    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"ONNX", nested_graphs(3000), struct.pack("<BQ", 0x3A, 2**63)])
def test_bytes_that_are_no_model_are_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"a\.onnx: .*expected an \.onnx file") as caught:
        read_model(path)
    assert "\n" not in str(caught.value)


def test_a_model_and_the_weights_beside_it_have_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_variant("beside the model", tmp_path)
    monkeypatch.setattr(foreign_model, "LARGEST_BYTES", path.stat().st_size + values().nbytes)
    read_model(path)
    for fewer, message in ((1, "cannot be read"), (values().nbytes + 1, "cannot be read")):
        monkeypatch.setattr(foreign_model, "LARGEST_BYTES", path.stat().st_size + values().nbytes - fewer)
        with pytest.raises(ArtifactError, match=message):
            read_model(path)


def test_a_pipe_or_a_device_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.onnx")
    for path in (tmp_path / "a.onnx", Path("/dev/zero")):
        with pytest.raises(ArtifactError, match="a pipe or a device"):
            read_model(path)


def deadly(path: Path) -> Path:
    """A Conv whose input has three axes and whose weights have four: onnx 1.21 and ONNX Runtime 1.24 abort on it."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "line"], ["flat"]), helper.make_node("Conv", ["flat", "w"], ["y"])],
        "deadly", [info("images", TensorProto.FLOAT, [1, 3, 8, 8])], [info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(np.array([1, 3, 64]), "line"),
         numpy_helper.from_array(np.zeros((4, 3, 1, 1), np.float32), "w")])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def test_a_detector_that_ends_its_runtime_is_an_error_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"a\.onnx: (ends the process that reads it|.*refuses it|.*does not run)"):
        open_detector(deadly(tmp_path / "a.onnx"))


def test_a_graph_that_ends_the_onnx_package_is_not_mended_and_no_crash(tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mended.onnx"
    assert lint_command([str(deadly(tmp_path / "a.onnx")), "--target", "tensorrt", "--fix", str(out)]) == 2
    assert "a.onnx: " in capsys.readouterr().err
    assert not out.exists()


def test_a_graph_that_wants_gigabytes_is_refused_before_it_takes_them(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["size"], ["ones"]), helper.make_node("ReduceSum", ["ones"], ["sum"]),
         helper.make_node("Add", ["images", "sum"], ["y"])], "greedy",
        [info("images", TensorProto.FLOAT, [1, 3, 8, 8])], [info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
        [numpy_helper.from_array(np.array([400_000_000]), "size")])
    (tmp_path / "a.onnx").write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match=r"a\.onnx: "):
        open_detector(tmp_path / "a.onnx")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_a_chain_of_a_thousand_roundings_is_linted(tmp_path: Path) -> None:
    names = ["w", *(f"t{number}" for number in range(2000)), "y"]
    nodes = [helper.make_node(("QuantizeLinear", "DequantizeLinear")[number % 2], [before, "s", "z"], [after])
             for number, (before, after) in enumerate(pairwise(names[:-2]))]
    nodes.append(helper.make_node("Add", ["x", names[-3]], ["y"]))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "chain", [info("x", TensorProto.FLOAT, [1])], [info("y", TensorProto.FLOAT, [1])],
                              [numpy_helper.from_array(np.ones(1, np.float32), "w"),
                               numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")])
    path = tmp_path / "a.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    assert lint_command([str(path)]) in (0, 1)
