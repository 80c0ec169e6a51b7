"""The artifact folder: a model file, golden.npz and a manifest.json that says what the model is and what it needs.

Checkpoints and exported models are both artifacts; ``kind`` tells them apart. Nothing here knows how to run one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edgekp.atomic import sha256, write_file
from edgekp.contract import AnyContract, Contract, contract_from_json
from edgekp.errors import ArtifactError, EdgekpError
from edgekp.golden import check_golden, load_golden, make_golden

FORMAT = "edgekp-artifact"
FORMAT_VERSION = 1
GOLDEN = "golden.npz"
MANIFEST = "manifest.json"


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


def write_artifact(folder: Path, kind: str, contract: AnyContract, model: dict[str, Any]) -> None:
    """Add golden vectors and the manifest to a folder that already holds the model's files."""
    np.savez_compressed(folder / GOLDEN, **make_golden(contract))  # type: ignore[arg-type]
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "kind": kind, "model": model,
                "contract": contract.to_json(), "files": files}
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def open_artifact(folder: Path, kind: str | None = None) -> Artifact:
    """Read a manifest and check every file it names.

    Raises:
        ArtifactError: No manifest, another format or kind, a missing file, or a digest that does not fit.
    """
    manifest = _read_manifest(folder)
    if kind is not None and manifest.get("kind") != kind:
        raise ArtifactError(f"{folder}: holds a '{manifest.get('kind')}', expected a '{kind}'")
    try:
        artifact = Artifact(folder, str(manifest["kind"]), contract_from_json(manifest["contract"]),
                            dict(manifest["model"]), dict(manifest["files"]))
    except (KeyError, TypeError, ValueError, EdgekpError) as error:
        raise ArtifactError(f"{folder}/manifest.json: unusable field ({error}); export the model again") from error
    for name, digest in artifact.files.items():
        _check_digest(folder, name, digest)
    for name in (str(artifact.model.get("file")), GOLDEN):
        if name not in artifact.files:
            raise ArtifactError(f"{folder}/manifest.json: '{name}' is not among its files; export the model again")
    return artifact


def verify_artifact(folder: Path) -> Artifact:
    """``open_artifact``, then recompute the golden vectors.

    Raises:
        ArtifactError: A file or a number is not what it was when the artifact was written.
    """
    artifact = open_artifact(folder)
    try:
        vectors = load_golden(folder / GOLDEN)
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise ArtifactError(f"{folder / GOLDEN}: no golden vectors ({error}); export the model again") from error
    problems = check_golden(artifact.contract, vectors)
    if problems:
        raise ArtifactError(f"{folder}: the contract does not reproduce its golden vectors: {'; '.join(problems)}")
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


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{folder}: no manifest.json, so no artifact; run the stage that writes it") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); export the model again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not an {FORMAT} manifest")
    if manifest.get("version") != FORMAT_VERSION:
        raise ArtifactError(f"{path}: version {manifest.get('version')}, this edgekp reads {FORMAT_VERSION}; "
                            "export the model again")
    return manifest


def _check_digest(folder: Path, name: str, digest: str) -> None:
    path = folder / name
    if Path(name).name != name:
        raise ArtifactError(f"{folder}/manifest.json: names a file outside its folder: {name}")
    if not path.is_file():
        raise ArtifactError(f"{path}: missing, though the manifest lists it; export the model again")
    found = sha256(path)
    if found != digest:
        raise ArtifactError(f"{path}: sha256 {found[:12]}…, the manifest says {digest[:12]}…; "
                            "the file was changed or damaged, export the model again")
