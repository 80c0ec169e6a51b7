"""``python -m deploy.export.qdq_lint``: what it prints, writes and refuses, on planted graphs and on real exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from deploy.export.qdq_lint.__main__ import main
from deploy.export.qdq_lint.at_export import require_fit
from deploy.export.qdq_lint.mend import mended
from deploy.export.qdq_lint.rules import lint
from edgekp.errors import ArtifactError
from tests.deploy import planted

MakeExport = Callable[[str, str], Path]


@pytest.fixture
def save(tmp_path: Path) -> Callable[[onnx.ModelProto], str]:
    def write(model: onnx.ModelProto) -> str:
        onnx.save(model, tmp_path / "model.onnx")
        return str(tmp_path / "model.onnx")
    return write


def test_an_error_for_the_target_exits_1_and_a_warning_0(
        save: Callable[[onnx.ModelProto], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = save(planted.relu_in_float(planted.onnxruntime()))
    assert main([path, "--target", "tensorrt"]) == 1
    printed = capsys.readouterr().out
    assert "error   zero_point             QuantizeLinear_0 (x): uint8 with zero point 128: TensorRT refuses" in printed
    assert main([path, "--target", "onnxruntime"]) == 0
    printed = capsys.readouterr().out
    assert "warning relu_in_float" in printed
    assert "zero_point" not in printed
    assert main([path]) == 1  # for some target


def test_a_node_cannot_forge_a_line_of_the_report(save: Callable[[onnx.ModelProto], str],
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    model = planted.relu_in_float(planted.onnxruntime())
    model.graph.node[0].name = "\x1b[2J\nfixed   all is well"
    assert main([save(model), "--target", "tensorrt"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert any(r"\x1b[2J\nfixed   all is well" in line for line in printed)
    assert all(line.isprintable() and not line.startswith("fixed") for line in printed)


def without_a_value(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["nothing"]))


def of_another_length(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims.append(7)


@pytest.mark.parametrize("damage", [without_a_value, of_another_length])
def test_a_graph_that_no_runtime_would_take_is_refused_in_one_line(
        damage: Callable[[onnx.ModelProto], None], save: Callable[[onnx.ModelProto], str],
        capsys: pytest.CaptureFixture[str]) -> None:
    model = planted.relu_in_float(planted.onnxruntime())
    damage(model)
    assert main([save(model)]) == 2
    assert "no usable ONNX" in capsys.readouterr().err


def test_findings_for_machines_are_flat(save: Callable[[onnx.ModelProto], str], tmp_path: Path) -> None:
    path = save(planted.int32_bias(planted.tensorrt()))
    assert main([path, "--target", "tensorrt", "--json", str(tmp_path / "found.json")]) == 1
    record, = json.loads((tmp_path / "found.json").read_text())
    assert record.keys() == {"rule", "severity", "node", "tensor", "why", "fixed"}
    assert record["rule"] == "int32_bias"
    assert record["fixed"] is False


def test_fix_writes_what_the_target_takes(save: Callable[[onnx.ModelProto], str], tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    path, out = save(planted.zero_point(planted.onnxruntime())), tmp_path / "fixed.onnx"
    before = Path(path).read_bytes()
    assert main([path, "--target", "tensorrt", "--fix", str(out), "--json", str(tmp_path / "found.json")]) == 0
    assert "fixed   zero_point" in capsys.readouterr().out
    assert all(record["fixed"] for record in json.loads((tmp_path / "found.json").read_text()))
    assert Path(path).read_bytes() == before
    assert main([str(out), "--target", "tensorrt"]) == 0
    assert capsys.readouterr().out == ""


def test_fix_leaves_what_it_cannot_keep_and_exits_1(save: Callable[[onnx.ModelProto], str], tmp_path: Path) -> None:
    path = save(planted.asymmetric(planted.tensorrt()))
    assert main([path, "--target", "tensorrt", "--fix", str(tmp_path / "fixed.onnx")]) == 1


def test_fix_needs_a_target(save: Callable[[onnx.ModelProto], str], tmp_path: Path,
                            capsys: pytest.CaptureFixture[str]) -> None:
    path = save(planted.clean(planted.tensorrt()))
    assert main([path, "--fix", str(tmp_path / "fixed.onnx")]) == 2
    assert "--fix needs --target, one of tensorrt, onnxruntime, tflite, dla" in capsys.readouterr().err
    assert not (tmp_path / "fixed.onnx").exists()


def test_a_rule_can_be_ignored(save: Callable[[onnx.ModelProto], str]) -> None:
    path = save(planted.int32_bias(planted.tensorrt()))
    assert main([path, "--target", "tensorrt", "--ignore", "int32_bias"]) == 0
    with pytest.raises(SystemExit):
        main([path, "--ignore", "int64_bias"])


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08\x12\x07pytorch"])
def test_what_is_no_onnx_exits_2_in_one_line(
        content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert "no usable ONNX model" in said
    assert said.count("\n") == 1


def test_a_damaged_or_missing_file_exits_2(save: Callable[[onnx.ModelProto], str], tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(save(planted.clean(planted.tensorrt())))
    path.write_bytes(path.read_bytes()[:-100])
    assert main([str(path)]) == 2
    assert main([str(tmp_path / "nothing.onnx")]) == 2
    assert main([str(tmp_path)]) == 2  # a folder, but no artifact
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize("name", ["hrnet", "mobilefacenet"])
@pytest.mark.parametrize("spelling", ["float", "int8", "uint8"])
def test_our_exports_are_clean_for_their_targets(name: str, spelling: str, export_of: MakeExport,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(export_of(name, spelling))]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("spelling", "target"), [("int8", "onnxruntime"), ("uint8", "tensorrt")])
def test_each_spelling_is_mended_for_the_other_target(spelling: str, target: str, export_of: MakeExport,
                                                      tmp_path: Path) -> None:
    path, out = export_of("hrnet", spelling) / "model.onnx", tmp_path / "fixed.onnx"
    assert main([str(path), "--target", target]) == (1 if target == "tensorrt" else 0)
    assert lint(onnx.load(path), (target,))
    assert main([str(path), "--target", target, "--fix", str(out)]) == 0
    assert lint(onnx.load(out), (target,)) == []


def test_an_export_with_an_error_is_stopped_and_a_warning_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArtifactError, match="tensorrt would not run this export as it is meant: scale at "):
        require_fit(planted.scale(planted.tensorrt()), "int8")
    require_fit(planted.prelu(planted.onnxruntime()), "uint8")
    said = capsys.readouterr().err
    assert said.startswith("export: onnxruntime: activation at PRelu_")
    assert said.count("\n") == 1


def float_net() -> onnx.ModelProto:
    net = planted.Net()
    weights = [np.random.default_rng(i).normal(0, 0.1, (8, 8, 3, 3)) for i in range(2)]
    x = net.add("Relu", net.conv("x", net.constant(weights[0]), net.constant(np.ones(8))))
    y = net.add("Add", x, net.conv(x, net.constant(weights[1]), net.constant(np.ones(8))))
    return net.model(net.add("Relu", y), batch="batch")


def test_the_output_of_onnx_runtimes_quantizer_can_be_linted(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="needs ONNX Runtime's quantizer")

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.batches = iter([{"x": rng.normal(size=(2, 8, 16, 16)).astype(np.float32)} for _ in range(4)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    onnx.save(float_net(), tmp_path / "float.onnx")
    quantization.quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Noise(), per_channel=True)
    found = {finding.rule for finding in lint(onnx.load(tmp_path / "int8.onnx"), ("tensorrt",))}
    assert {"asymmetric_zero_point", "int32_bias"} <= found  # its defaults are not for TensorRT
    assert "scale" not in found


def test_the_output_of_modelopt_is_mended_to_integer_weights(tmp_path: Path) -> None:
    mtq = pytest.importorskip("modelopt.torch.quantization", reason="ModelOpt is not installed (extra: modelopt)")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    x = torch.randn(4, 8, 16, 16)
    net = mtq.quantize(net.eval(), mtq.INT8_DEFAULT_CFG, lambda one: one(x))
    torch.onnx.export(net, (x,), tmp_path / "model.onnx", dynamo=False, opset_version=17)
    result, findings = mended(onnx.load(tmp_path / "model.onnx"), "tensorrt")
    assert [finding.rule for finding in findings] == ["weights_in_float"] * 3
    assert all(finding.fixed for finding in findings)
    stored = [numpy_helper.to_array(tensor) for tensor in result.graph.initializer]
    assert {array.dtype for array in stored if array.ndim == 4} == {np.dtype(np.int8)}
