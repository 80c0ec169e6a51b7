"""The artifact folder: a model file, golden.npz and a manifest.json that says what the model is and what it needs.

Checkpoints and exported models are both artifacts; ``kind`` tells them apart. Nothing here knows how to run one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.atomic import sha256, write_file
from edgekp.contract import AnyContract, Contract
from edgekp.errors import ArtifactError
from edgekp.golden import UNUSABLE, check_golden, load_golden, make_golden
from edgekp.json_file import MANIFEST_BYTES
from edgekp.manifest import AGAIN, MANIFEST, Manifest, manifest_text, parse_manifest
from edgekp.plain_file import read_plain
from edgekp.signature import SUFFIX, require_signature, sign

GOLDEN = "golden.npz"


@dataclass(frozen=True)
class Artifact:
    """An opened artifact folder whose files have the digests that its manifest states.

    Attributes:
        kind: ``checkpoint`` or the format of an exported model (``onnx``).
        model: what is specific to the kind: architecture, precision, target, parameters, macs.
        files: sha256 of each file by name.
    """

    folder: Path
    kind: str
    contract: AnyContract
    model: dict[str, Any]
    files: dict[str, str]

    @property
    def model_path(self) -> Path:
        return self.folder / str(self.model["file"])

    @property
    def size_bytes(self) -> int:
        return self.model_path.stat().st_size

    def read(self, name: str) -> bytes:
        """A file's bytes, checked after they were read: nothing can be put in their place before they are used.

        Raises:
            ArtifactError: The manifest does not name the file, or it was changed since the artifact was opened.
        """
        path = self.folder / name
        if name not in self.files:
            raise ArtifactError(f"{self.folder / MANIFEST}: '{name}' is not among its files; {AGAIN}")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
        _require_digest(path, hashlib.sha256(data).hexdigest(), self.files[name])
        return data

    def read_model(self) -> bytes:
        """``read`` of the model's file."""
        return self.read(self.model_path.name)


def write_artifact(folder: Path, kind: str, contract: AnyContract, model: dict[str, Any]) -> None:
    """Add golden vectors and the manifest to a folder that already holds the model's files."""
    golden = BytesIO()
    np.savez_compressed(golden, **make_golden(contract))  # type: ignore[arg-type]
    write_file(folder / GOLDEN, golden.getvalue())
    paths = [path for path in sorted(folder.iterdir())
             if path.is_file() and path.name != MANIFEST and path.suffix != SUFFIX]
    data = manifest_text(Manifest(kind, contract, model, {path.name: sha256(path) for path in paths},
                                  {path.name: path.stat().st_size for path in paths}))
    write_file(folder / MANIFEST, data)
    sign(folder / MANIFEST, data)


def open_artifact(folder: Path, kind: str | None = None) -> Artifact:
    """Read a manifest and check every file it names.

    Raises:
        ArtifactError: No manifest, one that was changed, is not signed though a key is given, or is of another format
            or kind; a missing file, or one whose size or digest does not fit.
    """
    data = _manifest_bytes(folder)
    require_signature(folder / MANIFEST, data)
    return _opened(folder, data, kind)


def verify_artifact(folder: Path) -> Artifact:
    """``open_artifact``, then recompute the golden vectors.

    Raises:
        ArtifactError: A file or a number is not what it was when the artifact was written.
    """
    artifact = open_artifact(folder)
    _require_golden(artifact)
    return artifact


def sign_artifact(folder: Path) -> Artifact:
    """``verify_artifact``, whoever signed it before, then sign its manifest with the key of this environment."""
    data = _manifest_bytes(folder)
    artifact = _opened(folder, data, None)
    _require_golden(artifact)
    sign(folder / MANIFEST, data)
    return artifact


def require_same_contract(first: Artifact, second: Artifact) -> None:
    """Refuse, field by field, to treat two artifacts as versions of one model."""
    differences = first.contract.differences(second.contract)
    if differences:
        raise ArtifactError(f"{first.folder} and {second.folder} do not fit each other: {'; '.join(differences)}")


def require_contract(artifact: Artifact, contract: AnyContract, command: str) -> None:
    """Refuse, field by field, an artifact that was made for another contract; ``command`` mends it."""
    differences = contract.differences(artifact.contract)
    if differences:
        raise ArtifactError(f"{artifact.folder}: was made for another contract: {'; '.join(differences)}; "
                            f"run: {command}")


def boxed_contract(artifact: Artifact, command: str) -> Contract:
    """The contract of a model that is shown people one by one; refuse one of whole scenes, not meant by ``command``."""
    if not isinstance(artifact.contract, Contract):
        raise ArtifactError(f"{artifact.folder}: is shown whole images, {command} is for models that are shown one "
                            "person in a box; python -m eval run and gate measure this one")
    return artifact.contract


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        return read_plain(path, MANIFEST_BYTES)
    except FileNotFoundError:
        raise ArtifactError(f"{folder}: no {MANIFEST}, so no artifact; run the stage that writes it") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error


def _opened(folder: Path, data: bytes, kind: str | None) -> Artifact:
    """The artifact whose manifest has these bytes."""
    manifest = parse_manifest(folder / MANIFEST, data)
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{folder}: holds a '{manifest.kind}', expected a '{kind}'")
    for name in (str(manifest.model.get("file")), GOLDEN):
        if name not in manifest.files:
            raise ArtifactError(f"{folder / MANIFEST}: '{name}' is not among its files; {AGAIN}")
    for name, digest in manifest.files.items():
        _check_file(folder / name, digest, manifest.sizes.get(name))
    return Artifact(folder, manifest.kind, manifest.contract, manifest.model, manifest.files)


def _check_file(path: Path, digest: str, size: int | None) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path}: missing, though the manifest lists it; {AGAIN}")
    try:
        found = path.stat().st_size
        if size is not None and found != size:  # known before a file of any length is read
            raise ArtifactError(f"{path}: sha256 differs: {found} bytes, the manifest says {size}; the file was "
                                f"changed or damaged, {AGAIN}")
        _require_digest(path, sha256(path), digest)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error


def _require_digest(path: Path, found: str, digest: str) -> None:
    if found != digest:
        raise ArtifactError(f"{path}: sha256 {found[:12]}…, the manifest says {digest[:12]}…; "
                            f"the file was changed or damaged, {AGAIN}")


def _require_golden(artifact: Artifact) -> None:
    """Refuse an artifact whose contract does not compute the numbers that it was written with."""
    try:
        vectors = load_golden(BytesIO(artifact.read(GOLDEN)))
        problems = check_golden(artifact.contract, vectors)
    except UNUSABLE as error:
        raise ArtifactError(f"{artifact.folder / GOLDEN}: no golden vectors ({error}); {AGAIN}") from error
    if problems:
        raise ArtifactError(f"{artifact.folder}: the contract does not reproduce its golden vectors: "
                            f"{'; '.join(problems)}")
