"""Every target's file puts keypoints where the network does, at every batch size; opset and batch are the target's."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.export_parity import BOUNDS_PX, EMBEDDED, FP16, crops_of, moved_px, targets_here
from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import FOLDER, target_named
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact, verify_artifact
from edgekp.coco import read_coco
from edgekp.contract import Contract
from edgekp.errors import ArtifactError, RecipeError
from edgekp.recipe import Export
from edgekp.skeletons import COCO17
from tests import tiny
from tests.manifests import accept_files
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

MakeCheckpoint = Callable[[str, bool], Checkpoint]
CODECS = {"heatmap": tiny.HRNET, "offset": tiny.HRNET, "simcc": tiny.HRNET, "integral": tiny.HRNET,
          "regression": tiny.FACENET}
CROPS = 16
MAY_JUMP = 0.01  # of the keypoints: an untrained map has rivals of its peak that differ by less than float16 tells


def test_every_target_but_the_one_that_rounds_as_it_likes_has_a_bound() -> None:
    known = {path.stem for path in FOLDER.glob("*.toml")}
    assert set(BOUNDS_PX) == known - {"tflite-dynamic"} | {FP16, EMBEDDED}


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_every_file_puts_keypoints_of_real_people_where_the_network_does(codec: str, real_data: Path,
                                                                         tmp_path: Path) -> None:
    """Largest distance of all keypoints but a hundredth, and of all where there is no peak to choose."""
    net, spec, contract = tiny.network(tiny.recipe(model=CODECS[codec], codec=codec))
    assert isinstance(contract, Contract)
    save_checkpoint(tmp_path, net, spec, contract)
    (tmp_path / "exports").mkdir()
    people = list(read_coco(real_data / "pose_lspet14/val_coco17.json", COCO17).instances[:CROPS])
    may_jump = 0.0 if codec in ("integral", "regression") else MAY_JUMP
    found = dict(moved_px(load_checkpoint(tmp_path), crops_of(people, contract), tmp_path / "exports"))
    assert {name for name in found if "." not in name} == set(targets_here())
    far = {name: float(np.quantile(px, 1 - may_jump)) for name, px in found.items()}
    assert {name: far[name] for name, bound in BOUNDS_PX.items() if far.get(name, 0.0) > bound} == {}
    assert codec == "simcc" or far[FP16] > 0  # another precision; only bins are too far apart to tell


@pytest.mark.parametrize("integer", [False, True])
def test_torchscript_says_what_its_network_says_to_the_last_bits(
        integer: bool, tmp_path: Path, checkpoint_of: MakeCheckpoint) -> None:
    checkpoint = checkpoint_of("hrnet", integer)
    export_checkpoint(checkpoint, tmp_path / "out", target_named("torchscript"))
    artifact = verify_artifact(tmp_path / "out")
    assert artifact.kind == "torchscript"
    assert artifact.model["precision"] == ("int8" if integer else "fp32")
    session = open_session(artifact)
    for batch in (1, 3):
        inputs = np.random.default_rng(batch).normal(size=(batch, 3, 64, 64)).astype(np.float32)
        expected = open_session(checkpoint.artifact).infer(inputs)["heatmaps"]
        np.testing.assert_allclose(session.infer(inputs)["heatmaps"], expected, atol=1e-5 * np.abs(expected).max())
    session.close()


def test_torchscript_needs_none_of_our_code(tmp_path: Path, checkpoint_of: MakeCheckpoint) -> None:
    export_checkpoint(checkpoint_of("hrnet", True), tmp_path / "out", target_named("torchscript"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(io.BytesIO((tmp_path / "out/model.torchscript").read_bytes()))
    kinds = {node.kind() for node in module.inlined_graph.nodes()}  # type: ignore[no-untyped-call]
    assert "aten::fake_quantize_per_tensor_affine" in kinds
    assert kinds <= {kind for kind in kinds if kind.startswith(("aten::", "prim::"))}
    assert list(module.parameters()) == []  # frozen: weights are constants


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04half of a file"])
def test_a_file_that_is_no_torchscript_is_refused_in_one_line(content: bytes, tmp_path: Path,
                                                              checkpoint_of: MakeCheckpoint) -> None:
    export_checkpoint(checkpoint_of("hrnet", False), tmp_path / "out", target_named("torchscript"))
    (tmp_path / "out/model.torchscript").write_bytes(content)
    accept_files(tmp_path / "out")
    with pytest.raises(ArtifactError, match="torch refuses it") as refusal:
        open_session(open_artifact(tmp_path / "out"))
    assert "\n" not in str(refusal.value)


def test_torchscript_of_another_codec_is_refused(tmp_path: Path, checkpoint_of: MakeCheckpoint) -> None:
    export_checkpoint(checkpoint_of("hrnet", False), tmp_path / "out", target_named("torchscript"))
    artifact = open_artifact(tmp_path / "out")
    two = replace(artifact, contract=tiny.recipe(codec="offset").contract())
    with pytest.raises(ArtifactError, match=r"1 outputs, expected \['heatmaps', 'offsets'\]"):
        open_session(two).infer(np.zeros((1, 3, 64, 64)))


@pytest.mark.parametrize("integer", [False, True])
def test_openvino_reads_our_onnx(integer: bool, tmp_path: Path, checkpoint_of: MakeCheckpoint) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra: openvino)")
    checkpoint = checkpoint_of("hrnet", integer)
    found = export_checkpoint(checkpoint, tmp_path / "out", target_named("openvino"))
    assert found["largest_difference"] < (0.1 if integer else 1e-4)
    inputs = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    session = open_session(open_artifact(tmp_path / "out"), threads=2)
    assert session.infer(inputs)["heatmaps"].shape == (3, 17, 16, 16)
    session.close()


def test_openvino_refuses_other_outputs_and_no_model(tmp_path: Path, checkpoint_of: MakeCheckpoint) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra: openvino)")
    export_checkpoint(checkpoint_of("hrnet", False), tmp_path / "out", target_named("openvino"))
    artifact = open_artifact(tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"outputs \['heatmaps'\], expected \['coordinates'\]"):
        open_session(replace(artifact, contract=tiny.recipe(codec="regression").contract()))
    artifact.model_path.write_bytes(b"no model")
    accept_files(artifact.folder)
    with pytest.raises(ArtifactError, match="OpenVINO refuses it") as refusal:
        open_session(open_artifact(artifact.folder))
    assert "\n" not in str(refusal.value)


def test_a_file_of_batch_size_1_still_serves_batches(tmp_path: Path, checkpoint_of: MakeCheckpoint) -> None:
    checkpoint = checkpoint_of("hrnet", False)
    sessions = []
    for name, target in (("free", target_named("cpu")), ("one", replace(target_named("cpu"), batch=1))):
        export_checkpoint(checkpoint, tmp_path / name, target)
        sessions.append(open_session(open_artifact(tmp_path / name)))
    graph = onnx.load(tmp_path / "one/model.onnx").graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 1
    inputs = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    free, one = (session.infer(inputs)["heatmaps"] for session in sessions)
    np.testing.assert_allclose(one, free, atol=1e-5 * np.abs(free).max())


@pytest.mark.parametrize(("opset", "expected"), [(None, 18), (14, 14)])
def test_the_opset_is_the_targets_unless_the_recipe_names_one(opset: int | None, expected: int, tmp_path: Path,
                                                              checkpoint_of: MakeCheckpoint) -> None:
    target = replace(target_named("cpu"), opset=18)
    export_checkpoint(checkpoint_of("hrnet", False), tmp_path / "out", target, Export(opset).opset)
    assert onnx.load(tmp_path / "out/model.onnx").opset_import[0].version == expected
    assert open_artifact(tmp_path / "out").model["opset"] == expected


def test_an_opset_without_scales_per_channel_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"targets/cpu\.opset: 12, expected 13"):
        replace(target_named("cpu"), opset=12)
