"""Artifacts: a folder that was changed, damaged or made by somebody else is refused before it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.artifact import open_artifact, verify_artifact, write_artifact
from edgekp.atomic import sha256
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.golden import load_golden
from edgekp.preprocess import InputSpec
from edgekp.skeletons import SKELETONS

CONTRACT = Contract(InputSpec((64, 48)), build_codec("heatmap", (64, 48), {}), SKELETONS["coco17"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "model.onnx").write_bytes(bytes(range(256)) * 4)
    write_artifact(path, "onnx", CONTRACT, {"file": "model.onnx", "parameters": 7})
    return path


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_written_is_what_is_opened(folder: Path) -> None:
    artifact = verify_artifact(folder)
    assert (artifact.kind, artifact.contract) == ("onnx", CONTRACT)
    assert artifact.model == {"file": "model.onnx", "parameters": 7}
    assert artifact.model_path.read_bytes() == bytes(range(256)) * 4
    assert artifact.size_bytes == 1024
    assert set(artifact.files) == {"model.onnx", "golden.npz"}


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_one_flipped_bit_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=rf"{name}: sha256 .* the manifest says"):
        open_artifact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: missing"):
        open_artifact(folder)


def test_a_truncated_model_is_found(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match="sha256"):
        open_artifact(folder)


def test_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="holds a 'onnx', expected a 'checkpoint'"):
        open_artifact(folder, "checkpoint")


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        open_artifact(tmp_path)
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        open_artifact(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_artifact(tmp_path / "file")


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_a_truncated_manifest_is_refused(folder: Path, length: int) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArtifactError, match=r"manifest\.json: cannot be read"):
        open_artifact(folder)


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: m.update(version=2), "version 2, this edgekp reads 1"),
    (lambda m: m.update(format="other"), "not an edgekp-artifact manifest"),
    (lambda m: m.pop("contract"), "unusable field"),
    (lambda m: m.pop("files"), "unusable field"),
    (lambda m: m.pop("kind"), "unusable field"),
    (lambda m: m.update(model="model.onnx"), "unusable field"),
    (lambda m: m.update(files=["model.onnx"]), "unusable field"),
    (lambda m: m.update(contract=[]), "unusable field"),
    (lambda m: m["contract"]["input"].update(input_hw=7), "unusable field"),
    (lambda m: m["model"].pop("file"), "not among its files"),
    (lambda m: m["model"].update(file="other.onnx"), r"'other\.onnx' is not among its files"),
    (lambda m: m["files"].pop("model.onnx"), r"'model\.onnx' is not among its files"),
    (lambda m: m["files"].pop("golden.npz"), r"'golden\.npz' is not among its files"),
])
def test_an_edited_manifest_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(folder, change)
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/../../secret"])
def test_a_manifest_cannot_name_files_outside_its_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    edit(folder, lambda m: (m["files"].update({name: "0" * 64}), m["model"].update(file=name)))
    with pytest.raises(ArtifactError, match="outside its folder"):
        open_artifact(folder)


def test_a_manifest_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ArtifactError, match="not an edgekp-artifact manifest"):
        open_artifact(folder)


def sign_again(folder: Path) -> None:
    """Make the digests fit, as a hand-made folder would."""
    edit(folder, lambda m: m.update(files={name: sha256(folder / name) for name in m["files"]}))


def test_golden_vectors_with_other_numbers_are_refused(folder: Path) -> None:
    """Digests fit, numbers do not: what an update of a library looks like."""
    vectors = load_golden(folder / "golden.npz")
    vectors["keypoints_xy"] += 0.5
    np.savez(folder / "golden.npz", **vectors)  # type: ignore[arg-type]
    sign_again(folder)
    open_artifact(folder)
    with pytest.raises(ArtifactError, match=r"golden 'keypoints_xy': off by 0\.5"):
        verify_artifact(folder)


def test_golden_vectors_that_lack_some_are_refused(folder: Path) -> None:
    vectors = load_golden(folder / "golden.npz")
    for name in ("image", "scores"):
        np.savez(folder / "golden.npz", **{key: array for key, array in vectors.items() if key != name})  # type: ignore[arg-type]
        sign_again(folder)
        with pytest.raises(ArtifactError, match=name):
            verify_artifact(folder)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_golden_vectors_that_are_no_archive_are_refused(folder: Path, content: bytes) -> None:
    (folder / "golden.npz").write_bytes(content)
    sign_again(folder)
    with pytest.raises(ArtifactError, match="no golden vectors"):
        verify_artifact(folder)
