"""Artifacts: a folder that was changed, damaged or made by somebody else is refused before it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from edgekp.artifact import GOLDEN, open_artifact, verify_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.golden import load_golden
from edgekp.manifest import MANIFEST
from edgekp.preprocess import InputSpec
from edgekp.skeletons import SKELETONS
from tests.manifests import accept_files, rewrite_manifest

CONTRACT = Contract(InputSpec((64, 48)), build_codec("heatmap", (64, 48), {}), SKELETONS["coco17"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "model.onnx").write_bytes(bytes(range(256)) * 4)
    write_artifact(path, "onnx", CONTRACT, {"file": "model.onnx", "parameters": 7})
    return path


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
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArtifactError, match=r"manifest\.json: (broken JSON|not a (usable )?JSON text)"):
        open_artifact(folder)


def test_a_changed_field_is_found_though_it_is_a_sound_one(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"parameters": 7', '"parameters": 8'))
    with pytest.raises(ArtifactError, match="changed or damaged since it was written: its sha256 does not fit"):
        open_artifact(folder)


def test_the_spelling_of_a_manifest_is_free(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(dict(reversed(manifest.items()))))
    verify_artifact(folder)


@pytest.mark.parametrize(("old", "new"), [
    ('"kind": "onnx"', '"kind": "tflite", "kind": "onnx"'), ('"parameters": 7', '"parameters": NaN'),
    ('"parameters": 7', '"parameters": 1e999'), ('"parameters": 7', '"parameters": ' + "[" * 5000 + "]" * 5000)])
def test_what_json_readers_disagree_about_is_refused(folder: Path, old: str, new: str) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace(old, new))
    with pytest.raises(ArtifactError, match=r"not a (usable )?JSON text") as refusal:
        open_artifact(folder)
    assert "\n" not in str(refusal.value)


def test_a_manifest_without_a_digest_of_its_own_is_read_and_that_is_said_once(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were written before version 2."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["sizes"], manifest["sha256"]
    (folder / MANIFEST).write_text(json.dumps(manifest | {"version": 1}))
    assert verify_artifact(folder).contract == CONTRACT
    open_artifact(folder)
    assert capsys.readouterr().err.count("stated no digest of the manifest itself") == 1


def test_what_was_checked_is_what_is_read(folder: Path) -> None:
    """A file that is changed after the artifact was opened is refused when it is read."""
    artifact = open_artifact(folder)
    assert artifact.read_model() == bytes(range(256)) * 4
    (folder / "model.onnx").write_bytes(bytes(reversed(range(256))) * 4)
    with pytest.raises(ArtifactError, match=r"model\.onnx: sha256"):
        artifact.read_model()
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be read"):
        artifact.read_model()
    with pytest.raises(ArtifactError, match=r"'engine' is not among its files"):
        artifact.read("engine")


def test_a_link_is_as_good_as_the_file_it_leads_to(folder: Path) -> None:
    """Data stores put links in place of files; a link to other bytes, a device or nothing is refused."""
    (folder / "model.onnx").rename(folder.parent / "stored")
    (folder / "model.onnx").symlink_to(folder.parent / "stored")
    verify_artifact(folder)
    for target in ("golden.npz", "/dev/zero", "nowhere", "model.onnx"):
        (folder / "model.onnx").unlink()
        (folder / "model.onnx").symlink_to(target)
        with pytest.raises(ArtifactError, match=r"model\.onnx: (sha256|missing|cannot be read)"):
            open_artifact(folder)


def test_the_size_tells_before_a_huge_file_is_read(folder: Path) -> None:
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk, and 10 minutes to read
    with pytest.raises(ArtifactError, match="1099511627776 bytes, the manifest says 1024"):
        open_artifact(folder)


def test_files_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.onnx").write_bytes(bytes(1024))
    write_artifact(other, "onnx", replace(CONTRACT, input=InputSpec((64, 48), padding=1.5)), {"file": "model.onnx"})
    for name in ("model.onnx", GOLDEN, MANIFEST):
        mixed = shutil.copytree(folder, tmp_path / f"mixed-{name}")
        shutil.copy(other / name, mixed / name)
        with pytest.raises(ArtifactError, match="sha256"):
            open_artifact(mixed)
    accept_files(tmp_path / f"mixed-{GOLDEN}")
    with pytest.raises(ArtifactError, match="does not reproduce its golden vectors"):
        verify_artifact(tmp_path / f"mixed-{GOLDEN}")


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: m.update(version=3), "version 3, this edgekp reads 2"),
    (lambda m: m.update(version=True), "unusable field 'version'"),
    (lambda m: m.update(format="other"), "not an edgekp-artifact manifest"),
    (lambda m: m.pop("contract"), "unusable field 'contract'"),
    (lambda m: m.pop("files"), "unusable field 'files'"),
    (lambda m: m.pop("kind"), "unusable field 'kind'"),
    (lambda m: m.update(kind=["onnx"]), "unusable field 'kind'"),
    (lambda m: m.update(model="model.onnx"), "unusable field 'model'"),
    (lambda m: m.update(model=[["file", "model.onnx"]]), "unusable field 'model'"),
    (lambda m: m.update(files=["model.onnx"]), "unusable field 'files'"),
    (lambda m: m.update(contract=[]), "unusable field 'contract'"),
    (lambda m: m.update(author="me"), "unknown field 'author'"),
    (lambda m: m["contract"].update(author="me"), r"unusable field 'contract\.author'"),
    (lambda m: m["contract"]["input"].update(input_hw=7), "unusable field"),
    (lambda m: m["contract"]["input"].update(input_hw=[64.5, 48]), "unusable field"),
    (lambda m: m["contract"]["skeleton"]["limbs"].append([0, 1.5]), r"unusable field 'contract\.skeleton\.limbs'"),
    (lambda m: m["model"].pop("file"), "not among its files"),
    (lambda m: m["model"].update(file="other.onnx"), r"'other\.onnx' is not among its files"),
    (lambda m: [m[part].pop("model.onnx") for part in ("files", "sizes")], r"'model\.onnx' is not among its files"),
    (lambda m: [m[part].pop("golden.npz") for part in ("files", "sizes")], r"'golden\.npz' is not among its files"),
    (lambda m: m["files"].update({"model.onnx": 7}), r"unusable field 'files\.model\.onnx': 7"),
    (lambda m: m["files"].update({"model.onnx": "0" * 63}), "expected a sha256"),
    (lambda m: m["sizes"].pop("model.onnx"), "unusable field 'sizes'"),
    (lambda m: m["sizes"].update({"model.onnx": "1024"}), "unusable field 'sizes'"),
])
def test_an_edited_manifest_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    rewrite_manifest(folder, change)
    with pytest.raises(ArtifactError, match=message):
        verify_artifact(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/../../secret", "secret\0"])
def test_a_manifest_cannot_name_files_outside_its_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    rewrite_manifest(folder, lambda m: (m["files"].update({name: "0" * 64}), m["sizes"].update({name: 6}),
                                        m["model"].update(file=name)))
    with pytest.raises(ArtifactError, match="outside its folder"):
        open_artifact(folder)


def test_a_manifest_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ArtifactError, match="not an edgekp-artifact manifest"):
        open_artifact(folder)


def test_golden_vectors_with_other_numbers_are_refused(folder: Path) -> None:
    """Digests fit, numbers do not: what an update of a library looks like."""
    vectors = load_golden(folder / "golden.npz")
    vectors["keypoints_xy"] += 0.5
    np.savez(folder / "golden.npz", **vectors)  # type: ignore[arg-type]
    accept_files(folder)
    open_artifact(folder)
    with pytest.raises(ArtifactError, match=r"golden 'keypoints_xy': off by 0\.5"):
        verify_artifact(folder)


def test_golden_vectors_that_lack_some_are_refused(folder: Path) -> None:
    vectors = load_golden(folder / "golden.npz")
    for name in ("image", "scores"):
        np.savez(folder / "golden.npz", **{key: array for key, array in vectors.items() if key != name})  # type: ignore[arg-type]
        accept_files(folder)
        with pytest.raises(ArtifactError, match=name):
            verify_artifact(folder)


@pytest.mark.parametrize("content", [b"no array", b"\x93NUMPY\x01\0\x08\0{'a': (\n", b"\x93NUMPY\x01\0\x04\0\0\0\0\n",
                                     b"\x93NUMPY\x01\0\xff\xff"])
def test_a_golden_vector_that_is_no_array_is_refused(folder: Path, content: bytes) -> None:
    """numpy gives bytes for the first, and reads the headers of the others as Python."""
    with ZipFile(folder / "golden.npz") as sound:
        members = {name: sound.read(name) for name in sound.namelist()}
    with ZipFile(folder / "golden.npz", "w") as changed:
        for name, data in (members | {"scores.npy": content}).items():
            changed.writestr(name, data)
    accept_files(folder)
    with pytest.raises(ArtifactError, match="no golden vectors"):
        verify_artifact(folder)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_among_golden_vectors_are_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    vectors: dict[str, Any] = {**load_golden(folder / "golden.npz"), "scores": np.array([Attack(tmp_path / "ran")])}
    np.savez(folder / "golden.npz", **vectors)
    accept_files(folder)
    with pytest.raises(ArtifactError, match="no golden vectors"):
        verify_artifact(folder)
    assert not (tmp_path / "ran").exists()
    with np.load(folder / "golden.npz", allow_pickle=True) as careless:
        assert careless["scores"] is not None
    assert (tmp_path / "ran").exists()  # so that the attack is one


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_golden_vectors_that_are_no_archive_are_refused(folder: Path, content: bytes) -> None:
    (folder / "golden.npz").write_bytes(content)
    accept_files(folder)
    with pytest.raises(ArtifactError, match="no golden vectors"):
        verify_artifact(folder)
