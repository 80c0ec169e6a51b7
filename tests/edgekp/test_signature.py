"""Signatures: with a key only what the key's owner wrote is read; the key itself is never seen."""

from __future__ import annotations

import hmac
import json
import shutil
from pathlib import Path

import pytest

from edgekp.__main__ import main
from edgekp.artifact import GOLDEN, open_artifact, verify_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError, EdgekpError
from edgekp.manifest import MANIFEST
from edgekp.preprocess import InputSpec
from edgekp.signature import SigningKey, require_key, signing_key
from edgekp.skeletons import SKELETONS
from tests.manifests import accept_files

KEY, OTHER = "correct horse battery staple", "another horse, another battery"
CONTRACT = Contract(InputSpec((64, 48)), build_codec("heatmap", (64, 48), {}), SKELETONS["coco17"])
SIGNATURE = f"{MANIFEST}.hmac"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKP_KEY", raising=False)
    monkeypatch.delenv("EDGEKP_KEY_FILE", raising=False)


def write(folder: Path, model: bytes = b"model") -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx"})
    return folder


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact signed with KEY, which is still given."""
    monkeypatch.setenv("EDGEKP_KEY", KEY)
    return write(tmp_path / "signed")


def test_what_is_written_with_a_key_opens_with_it_and_without_one(
        signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_artifact(signed).files.keys() == {"model.onnx", GOLDEN}
    monkeypatch.delenv("EDGEKP_KEY")
    verify_artifact(signed)


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    assert sorted(path.name for path in write(tmp_path / "a").iterdir()) == [GOLDEN, MANIFEST, "model.onnx"]


def test_the_signature_is_hmac_sha256_of_the_name_and_the_bytes(signed: Path) -> None:
    """So that others can check it: openssl dgst -sha256 -hmac KEY."""
    message = b"manifest.json/" + (signed / MANIFEST).read_bytes()
    expected = hmac.digest(KEY.encode(), message, "sha256").hex()
    assert (signed / SIGNATURE).read_text().split()[1] == expected


def test_what_is_not_signed_is_refused_though_its_digests_fit(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "unsigned")
    monkeypatch.setenv("EDGEKP_KEY", KEY)
    with pytest.raises(ArtifactError, match=r"is not signed, and a key is given; if you trust it: edgekp sign"):
        open_artifact(folder)


def test_another_key_is_refused_and_named(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKP_KEY", OTHER)
    with pytest.raises(ArtifactError, match=f"another key than {SigningKey(OTHER.encode()).id}, which is given"):
        open_artifact(signed)


def test_a_model_that_somebody_put_in_with_digests_that_fit_is_refused(signed: Path) -> None:
    (signed / "model.onnx").write_bytes(b"evil!")
    accept_files(signed)
    with pytest.raises(ArtifactError, match=r"manifest\.json: was changed since it was signed"):
        open_artifact(signed)


@pytest.mark.parametrize("text", ["", "x", "\xff", "0" * 5000, "deadbeef " + "0" * 64])
def test_a_damaged_signature_is_refused(signed: Path, text: str) -> None:
    (signed / SIGNATURE).write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match="signed") as refusal:
        open_artifact(signed)
    assert "\n" not in str(refusal.value)


def test_the_signature_of_another_artifact_does_not_fit(signed: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", b"other model")
    shutil.copy(other / SIGNATURE, signed / SIGNATURE)
    with pytest.raises(ArtifactError, match="changed since it was signed"):
        open_artifact(signed)


def test_a_file_cannot_take_the_place_of_another_that_was_signed() -> None:
    key = SigningKey(KEY.encode())
    assert key.signature("engine.json", b"{}") != key.signature("manifest.json", b"{}")


def test_no_field_is_read_before_the_signature_was_found_to_fit(signed: Path) -> None:
    (signed / MANIFEST).write_text("no JSON")
    with pytest.raises(ArtifactError, match="changed since it was signed"):
        open_artifact(signed)


def test_the_key_file_may_end_with_a_line_and_stands_for_the_same_key(
        signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    monkeypatch.delenv("EDGEKP_KEY")
    monkeypatch.setenv("EDGEKP_KEY_FILE", str(file))
    verify_artifact(signed)
    assert capsys.readouterr().err == ""


def test_a_key_that_others_may_read_is_complained_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "open key"
    file.write_text(KEY)
    file.chmod(0o644)
    monkeypatch.setenv("EDGEKP_KEY_FILE", str(file))
    assert signing_key() == signing_key() == SigningKey(KEY.encode())
    assert capsys.readouterr().err == f"key: others may read {file} (mode 644); run: chmod 600 {file}\n"


@pytest.mark.parametrize("key", ["", " " * 40, "15 bytes of key"])
def test_a_short_key_is_refused_rather_than_taken_for_none(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    (tmp_path / "key").write_text(key)
    for name, value in {"EDGEKP_KEY": key, "EDGEKP_KEY_FILE": str(tmp_path / "key")}.items():
        monkeypatch.setenv(name, value)
        with pytest.raises(EdgekpError, match="expected at least 16; make one") as refusal:
            signing_key()
        assert not key.strip() or key not in str(refusal.value)
        monkeypatch.delenv(name)


def test_a_key_that_cannot_be_read_or_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "nowhere", "/"):
        monkeypatch.setenv("EDGEKP_KEY_FILE", name)
        with pytest.raises(EdgekpError, match=r"EDGEKP_KEY_FILE: '.*' cannot be read"):
            signing_key()
    monkeypatch.setenv("EDGEKP_KEY", KEY)
    with pytest.raises(EdgekpError, match="both set"):
        signing_key()


def test_the_key_is_in_no_text(signed: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    assert KEY not in repr(signing_key())
    assert main(["verify", str(signed)]) == 0
    monkeypatch.setenv("EDGEKP_KEY", OTHER)
    assert main(["verify", str(signed)]) == 2
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    assert OTHER not in printed.out + printed.err
    assert all(KEY.encode() not in path.read_bytes() for path in signed.iterdir())


def test_the_commands_sign_and_say_who_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    folder, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(", unsigned\n")
    assert main(["sign", str(folder)]) == 2
    assert "no key: set EDGEKP_KEY_FILE" in capsys.readouterr().err
    for key in (OTHER, KEY):  # the second takes the place of the first
        monkeypatch.setenv("EDGEKP_KEY", key)
        assert main(["sign", str(folder), str(second)]) == 0
        assert capsys.readouterr().out == "".join(f"{name}: signed with key {require_key().id}\n"
                                                  for name in (folder, second))
    assert main(["verify", str(folder)]) == 0
    number = require_key().id
    assert capsys.readouterr().out.endswith(f", signed with key {number}\n")
    monkeypatch.delenv("EDGEKP_KEY")
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(f", signed by key '{number}', not checked: no key is given\n")


def test_what_is_damaged_is_not_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "a")
    monkeypatch.setenv("EDGEKP_KEY", KEY)
    (folder / "model.onnx").write_bytes(b"modem")
    assert main(["sign", str(folder)]) == 2
    assert not (folder / SIGNATURE).exists()


def test_signing_changes_no_byte_of_what_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no stage runs again because its input was signed."""
    folder = write(tmp_path / "a")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setenv("EDGEKP_KEY", KEY)
    assert main(["sign", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SIGNATURE} == before
    monkeypatch.delenv("EDGEKP_KEY")
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx"})
    assert not (folder / SIGNATURE).exists()  # an old signature beside a new manifest would look like tampering
    assert SIGNATURE not in json.loads((folder / MANIFEST).read_text())["files"]
