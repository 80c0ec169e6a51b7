"""Sessions: a model that does not fit its contract, or does not open, is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact
from edgekp.errors import ArtifactError
from tests.manifests import accept_files
from train.models.checkpoint import Checkpoint

MakeExport = Callable[[str, str], Path]
MakeCheckpoint = Callable[[str, bool], Checkpoint]


@pytest.fixture
def folder(tmp_path: Path, export_of: MakeExport) -> Path:
    """A copy of an exported artifact, to be damaged."""
    to = tmp_path / "artifact"
    to.mkdir()
    for path in export_of("hrnet", "float").iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def sign_again(folder: Path, **fields: str) -> None:
    accept_files(folder, lambda manifest: manifest.update(fields))


def test_other_outputs_than_the_codec_decodes_are_refused(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        node.output[:] = ["maps" if name == "heatmaps" else name for name in node.output]
    model.graph.output[0].name = "maps"
    onnx.save(model, folder / "model.onnx")
    sign_again(folder)
    with pytest.raises(ArtifactError, match=r"outputs \['maps'\], expected \['heatmaps'\]; export") as refusal:
        open_session(open_artifact(folder))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08\x12\x07pytorch"])
def test_a_file_that_is_no_model_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    sign_again(folder)
    with pytest.raises(ArtifactError, match="ONNX Runtime refuses it") as refusal:
        open_session(open_artifact(folder))
    assert "\n" not in str(refusal.value)


def test_a_truncated_model_is_refused(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:len(data) // 2])
    with pytest.raises(ArtifactError, match="sha256"):
        open_artifact(folder)
    sign_again(folder)
    with pytest.raises(ArtifactError, match="ONNX Runtime refuses it"):
        open_session(open_artifact(folder))


def test_a_format_without_a_runtime_is_refused(folder: Path) -> None:
    sign_again(folder, kind="coreml")
    with pytest.raises(ArtifactError, match="no runtime here for 'coreml'; known: onnx, tflite"):
        open_session(open_artifact(folder))


def test_a_session_gives_the_codecs_outputs_and_one_row_for_each_input(folder: Path) -> None:
    session = open_session(open_artifact(folder), threads=2)
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64))
    both = session.infer(x)["heatmaps"]
    alone = session.infer(x[1:].astype(np.float32))["heatmaps"]
    assert both.dtype == np.float32
    np.testing.assert_allclose(both[1:], alone, atol=1e-5 * np.abs(alone).max())
    session.close()


@pytest.mark.parametrize("name", ["hrnet", "mobilefacenet"])
def test_a_checkpoint_says_what_its_export_says(checkpoint_of: MakeCheckpoint, export_of: MakeExport,
                                                name: str) -> None:
    checkpoint = checkpoint_of(name, False)
    x = np.random.default_rng(0).normal(size=(2, 3, *checkpoint.contract.input.input_hw))
    in_torch, exported = (open_session(open_artifact(folder)).infer(x)
                          for folder in (checkpoint.artifact.folder, export_of(name, "float")))
    assert in_torch.keys() == exported.keys()
    for output, array in in_torch.items():
        np.testing.assert_allclose(exported[output], array, atol=1e-4 * np.abs(array).max())
