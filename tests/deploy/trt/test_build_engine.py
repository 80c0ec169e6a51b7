"""An engine is built from what artifact and version allow, once, and lies beside its model whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from deploy.runtime.gpu.driver import Gpu
from deploy.runtime.trt.builder import TIMING_CACHE, build_engine
from deploy.runtime.trt.order import Order
from deploy.runtime.trt.stamp import ENGINE, STAMP, Stamp
from edgekp.artifact import Artifact, open_artifact
from edgekp.atomic import sha256
from edgekp.errors import ArtifactError, EngineError
from tests import tiny
from tests.deploy.trt.fake_tensorrt import VERSIONS, fake_tensorrt
from tests.deploy.trt.host_driver import ORIN
from tests.manifests import accept_files

MakeArtifact = Callable[[str], Artifact]
WEAK, STRONG = False, True


def header_of(artifact: Artifact) -> dict[str, Any]:
    """What the fake TensorRT was told when it built the engine."""
    return dict(json.loads((artifact.folder / ENGINE).read_bytes().split(b"\n", 2)[1]))


def sign_again(artifact: Artifact, **model: Any) -> Artifact:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"] = {name: value for name, value in (manifest["model"] | model).items() if value is not None}

    accept_files(artifact.folder, change)
    return open_artifact(artifact.folder)


@pytest.mark.parametrize(("version", "precision", "asked", "onnx_file", "strongly_typed", "flags"), [
    ("8.6.1", "float", "fp32", "model.onnx", WEAK, []),
    ("8.6.1", "float", "auto", "model.onnx", WEAK, ["FP16", "TF32"]),
    ("8.6.1", "int8", "auto", "model.onnx", WEAK, ["FP16", "INT8", "TF32"]),
    ("10.3.0", "float", "fp32", "model.onnx", STRONG, []),
    ("10.3.0", "float", "auto", "model_fp16.onnx", STRONG, ["TF32"]),
    ("10.3.0", "int8", "auto", "model_fp16.onnx", STRONG, ["TF32"]),
    ("11.4.0.106", "float", "fp32", "model.onnx", STRONG, []),
    ("11.4.0.106", "float", "fp16", "model_fp16.onnx", STRONG, ["TF32"]),
    ("11.4.0.106", "int8", "int8", "model_fp16.onnx", STRONG, ["TF32"]),
])
def test_types_come_from_a_file_where_the_version_takes_them_from_it(
        copy_of: MakeArtifact, version: str, precision: str, asked: str, onnx_file: str, strongly_typed: bool,
        flags: list[str]) -> None:
    artifact = copy_of(precision)
    stamp = build_engine(artifact, ORIN, Order(asked), trt=fake_tensorrt(version))
    assert (stamp.request.onnx, stamp.request.strongly_typed) == (onnx_file, strongly_typed)
    assert header_of(artifact)["flags"] == flags
    assert set(stamp.layers.values()) == {stamp.request.precision}


@pytest.mark.parametrize(("version", "precision", "strongly_typed"), [
    ("10.3.0", "float", WEAK), ("10.13.3.9", "int8", WEAK), ("11.4.0.106", "int8", STRONG)])
def test_without_a_float16_file_flags_give_fp16_where_the_version_has_them(
        copy_of: MakeArtifact, version: str, precision: str, strongly_typed: bool) -> None:
    artifact = sign_again(copy_of(precision), fp16_file=None)
    stamp = build_engine(artifact, ORIN, trt=fake_tensorrt(version))
    assert (stamp.request.onnx, stamp.request.strongly_typed) == ("model.onnx", strongly_typed)
    assert ("FP16" in header_of(artifact)["flags"]) == (not strongly_typed)


def test_fp16_without_its_file_is_refused_where_the_version_has_no_flags(artifact: Artifact) -> None:
    artifact = sign_again(artifact, fp16_file=None)
    with pytest.raises(EngineError, match=r"no float16 file.*11\.4.*deploy.export --target jetson.*--precision fp32"):
        build_engine(artifact, ORIN, trt=fake_tensorrt("11.4.0.106"))


@pytest.mark.parametrize(("precision", "asked", "words"), [
    ("float", "int8", "holds a float model; int8 models are made by the recipe's step 'quantize'"),
    ("int8", "fp16", "holds an int8 model; the float model is the folder 'float'"),
    ("int8", "fp32", "holds an int8 model"),
])
def test_a_precision_that_the_artifact_does_not_hold_is_refused(copy_of: MakeArtifact, precision: str, asked: str,
                                                                words: str) -> None:
    with pytest.raises(EngineError, match=words):
        build_engine(copy_of(precision), ORIN, Order(asked), trt=fake_tensorrt())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stamp_says_what_was_built_where(artifact: Artifact, version: str) -> None:
    stamp = build_engine(artifact, ORIN, Order("fp32", 5, workspace_mb=64), trt=fake_tensorrt(version))
    written = json.loads((artifact.folder / STAMP).read_text())
    assert written["machine"] == {"tensorrt": version, "gpu": "Orin", "capability": "8.7"}
    assert written["onnx_sha256"] == sha256(artifact.folder / "model.onnx")
    assert written["engine_sha256"] == sha256(artifact.folder / ENGINE)
    assert written["size_bytes"] == (artifact.folder / ENGINE).stat().st_size
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(artifact.model_path).graph.node)
    assert list(stamp.layers.values()) == ["fp32"] * convolutions
    assert header_of(artifact)["pools"] == {"WORKSPACE": 64 << 20}
    (least, best, most), = header_of(artifact)["shapes"].values()
    assert (least, best, most) == ([1, 3, 64, 64], [1, 3, 64, 64], [5, 3, 64, 64])


def test_a_batch_of_eight_people_is_the_default(artifact: Artifact) -> None:
    assert build_engine(artifact, ORIN, trt=fake_tensorrt()).request.max_batch == 8


def test_a_layout_of_the_inspector_that_nobody_knows_costs_only_the_list_of_layers(artifact: Artifact) -> None:
    trt = fake_tensorrt()
    trt.EngineInspector.get_engine_information = lambda inspector, form: "Layers: many"
    assert build_engine(artifact, ORIN, trt=trt).layers == {}


CHANGES: dict[str, tuple[Gpu, str, Order]] = {
    "tensorrt: 10.3.0 -> 10.13.3.9": (ORIN, "10.13.3.9", Order()),
    "gpu: Orin -> Thor; capability: 8.7 -> 11.0": (replace(ORIN, name="Thor", capability=(11, 0)), "10.3.0", Order()),
    "max_batch: 8 -> 2": (ORIN, "10.3.0", Order(max_batch=2)),
    "onnx: model_fp16.onnx -> model.onnx; precision: fp16 -> fp32": (ORIN, "10.3.0", Order("fp32")),
    "workspace_mb: None -> 64": (ORIN, "10.3.0", Order(workspace_mb=64)),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_an_engine_is_built_again_when_something_differs_and_says_what(
        artifact: Artifact, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    gpu, version, order = CHANGES[reason]
    build_engine(artifact, ORIN, trt=fake_tensorrt())
    capsys.readouterr()
    build_engine(artifact, gpu, order, trt=fake_tensorrt(version))
    assert f"build_engine: building because {reason}\n" in capsys.readouterr().err
    build_engine(artifact, gpu, order, trt=fake_tensorrt(version))
    assert capsys.readouterr().err == f"build_engine: up to date ({artifact.folder / ENGINE})\n"


def test_an_engine_is_built_again_for_another_model_a_changed_engine_and_by_force(
        artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    def build(artifact: Artifact, force: bool = False) -> str:
        build_engine(artifact, ORIN, Order("fp32"), force=force, trt=fake_tensorrt())
        return capsys.readouterr().err

    assert "because no engine yet" in build(artifact)
    model = onnx.load(artifact.model_path)
    model.producer_name = "another"
    onnx.save(model, artifact.model_path)
    artifact = sign_again(artifact)
    assert "because model.onnx: sha256" in build(artifact)
    (artifact.folder / ENGINE).write_bytes(b"cut off")
    assert "because model.engine: sha256" in build(artifact)
    (artifact.folder / ENGINE).unlink()
    assert "because model.engine cannot be read (No such file or directory)" in build(artifact)
    assert "because --force" in build(artifact, force=True)
    assert "up to date" in build(artifact)


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_between_the_files_leaves_what_is_built_again(
        artifact: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], crash_at: int) -> None:
    """After the timing cache, and after the engine but before its stamp; an older engine and stamp lie there."""
    build_engine(artifact, ORIN, trt=fake_tensorrt("8.6.1"))
    with monkeypatch.context() as patch:
        from deploy.runtime.trt import builder as trt_builder
        patch.setattr(trt_builder, "write_file", tiny.nth_call(trt_builder.write_file, crash_at, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_engine(artifact, ORIN, trt=fake_tensorrt("10.3.0"))
    capsys.readouterr()
    build_engine(artifact, ORIN, trt=fake_tensorrt("10.3.0"))
    assert "building because tensorrt: 8.6.1 -> 10.3.0" in capsys.readouterr().err


def test_an_engine_of_the_same_machine_without_its_own_stamp_is_built_again(
        artifact: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    build_engine(artifact, ORIN, Order(max_batch=1), trt=fake_tensorrt())
    with monkeypatch.context() as patch:
        patch.setattr(Stamp, "write", lambda stamp, folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_engine(artifact, ORIN, Order(max_batch=2), trt=fake_tensorrt())
    capsys.readouterr()
    build_engine(artifact, ORIN, Order(max_batch=1), trt=fake_tensorrt())
    assert "building because model.engine: sha256" in capsys.readouterr().err


def test_the_timing_cache_is_kept_across_builds_of_a_version_and_begun_anew_for_another(artifact: Artifact) -> None:
    def lines_after(version: str, batch: int) -> list[bytes]:
        build_engine(artifact, ORIN, Order(max_batch=batch), trt=fake_tensorrt(version))
        return (artifact.folder / TIMING_CACHE).read_bytes().splitlines()[1:]

    assert lines_after("10.3.0", 1) == [b"10.3.0", b"measured"]
    assert lines_after("10.3.0", 2) == [b"10.3.0", b"measured", b"measured"]
    assert lines_after("8.6.1", 2) == [b"8.6.1", b"measured"]
    (artifact.folder / TIMING_CACHE).write_bytes(b"cut off")
    assert lines_after("8.6.1", 1) == [b"8.6.1", b"measured"]


@pytest.mark.parametrize(("version", "onnx_file"), [("8.6.1", "model.onnx"), ("10.3.0", "model.onnx"),
                                                    ("11.4.0.106", "model_fp16.onnx")])
def test_the_dla_is_used_with_the_gpu_behind_it(artifact: Artifact, version: str, onnx_file: str) -> None:
    stamp = build_engine(artifact, ORIN, Order(dla=1), trt=fake_tensorrt(version, dla_cores=2))
    header = header_of(artifact)
    assert (header["dla"], "GPU_FALLBACK" in header["flags"]) == (1, True)
    assert (stamp.request.max_batch, stamp.request.onnx) == (1, onnx_file)


@pytest.mark.parametrize(("order", "cores", "words"), [
    (Order(dla=0), 0, "sees 0 DLA cores here"),
    (Order(dla=2), 2, "sees 2 DLA cores here, numbered from 0"),
    (Order(dla=0, max_batch=4), 2, "on the DLA every size is fixed"),
    (Order("fp32", dla=0), 2, "the DLA computes fp16 and int8, not fp32; use --precision fp16"),
])
def test_a_dla_that_is_not_there_or_cannot_is_refused(artifact: Artifact, order: Order, cores: int,
                                                      words: str) -> None:
    with pytest.raises(EngineError, match=words):
        build_engine(artifact, ORIN, order, trt=fake_tensorrt(dla_cores=cores))
    assert not (artifact.folder / ENGINE).exists()


def test_the_parsers_sentence_is_quoted_in_one_line(artifact: Artifact) -> None:
    model = onnx.load(artifact.model_path)
    model.graph.node[0].op_type = "Bogus"
    onnx.save(model, artifact.model_path)
    with pytest.raises(EngineError, match=r"parser refuses it: Plugin not found.*Bogus") as refusal:
        build_engine(sign_again(artifact), ORIN, Order("fp32"), trt=fake_tensorrt())
    assert "\n" not in str(refusal.value)


def test_the_builders_reason_is_quoted_from_its_log(copy_of: MakeArtifact) -> None:
    artifact = sign_again(copy_of("int8"), precision="fp32")  # a manifest that hides what the file is
    (artifact.folder / TIMING_CACHE).write_bytes(b"of another version, which the log calls an error, too")
    with pytest.raises(EngineError, match="builds no engine from it: int8 quantization without the flag INT8"):
        build_engine(artifact, ORIN, Order("fp32"), trt=fake_tensorrt("8.6.1"))


def test_a_file_of_a_fixed_batch_says_which(artifact: Artifact) -> None:
    model = onnx.load(artifact.model_path)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, artifact.model_path)
    artifact = sign_again(artifact)
    with pytest.raises(EngineError, match=r"model\.onnx: is of a fixed batch of 1; use --max-batch 1"):
        build_engine(artifact, ORIN, Order("fp32"), trt=fake_tensorrt())
    assert build_engine(artifact, ORIN, Order("fp32", 1), trt=fake_tensorrt()).request.max_batch == 1


def test_an_engine_that_does_not_open_on_its_own_machine_is_not_written(artifact: Artifact) -> None:
    trt = fake_tensorrt()
    trt.Runtime.deserialize_cuda_engine = lambda runtime, data: None
    with pytest.raises(EngineError, match="was built, but does not open here: it gives no reason"):
        build_engine(artifact, ORIN, trt=trt)
    assert not (artifact.folder / ENGINE).exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_built(
        artifact: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(EngineError, match=r"cannot be put beside its model \(no permission\); copy the artifact"):
        build_engine(artifact, ORIN, trt=fake_tensorrt())
    assert capsys.readouterr().err == ""


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_engine(artifact: Artifact) -> None:
    (artifact.folder / ENGINE).mkdir()  # a file cannot take its place
    with pytest.raises(EngineError, match=r"cannot be put beside its model \(.*directory.*\)"):
        build_engine(artifact, ORIN, trt=fake_tensorrt())
    assert not (artifact.folder / STAMP).exists()
    assert list(artifact.folder.glob(".*.tmp")) == []


def test_an_artifact_of_another_format_or_with_a_file_left_out_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="holds a 'tflite', engines are built from 'onnx'"):
        build_engine(replace(artifact, kind="tflite"), ORIN, trt=fake_tensorrt())
    with pytest.raises(ArtifactError, match=r"'gone\.onnx' is not among its files"):
        build_engine(sign_again(artifact, fp16_file="gone.onnx"), ORIN, trt=fake_tensorrt())


def test_a_damaged_model_is_refused_before_it_is_built(artifact: Artifact) -> None:
    with Path(artifact.model_path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="sha256"):
        open_artifact(artifact.folder)
