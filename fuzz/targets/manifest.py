"""manifest.json of an artifact folder whose files are sound; its seal is made to hold."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from edgekp.artifact import require_same_contract, verify_artifact
from edgekp.manifest import MANIFEST
from fuzz.drawn import artifact_in, resealed
from fuzz.target import Read, Target


def _seed() -> bytes:
    with TemporaryDirectory() as folder:
        return (artifact_in(Path(folder) / "model") / MANIFEST).read_bytes()


def reader(folder: Path) -> Read:
    other, own = artifact_in(folder / "other"), artifact_in(folder / "own")

    def read(data: bytes) -> None:
        (own / MANIFEST).write_bytes(resealed(data))
        require_same_contract(verify_artifact(other), verify_artifact(own))
    return read


TARGET = Target((_seed(),), reader, (b'"simcc"', b'"codec"', b'"input_hw"', b'"files"', b'"model"', b"1e999", b"NaN"))
