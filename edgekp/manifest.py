"""The manifest of an artifact: its text, and the fields that a text holds. Knows no folder and opens no file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgekp.contract import AnyContract, contract_from_json, flatten
from edgekp.errors import ArtifactError, EdgekpError
from edgekp.json_file import parse_json
from edgekp.sealed_json import sealed, unsealed
from edgekp.stage import say

MANIFEST = "manifest.json"
FORMAT = "edgekp-artifact"
FORMAT_VERSION = 2
UNSEALED_VERSION = 1  # states no digest of its own, and no sizes
FIELDS = {"format": str, "version": int, "kind": str, "model": dict, "contract": dict, "files": dict}
SHA256 = re.compile("[0-9a-f]{64}")
AGAIN = "export the model again"


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        files: sha256 of each file by name.
        sizes: bytes of each file by name; empty in manifests of version 1.
    """

    kind: str
    contract: AnyContract
    model: dict[str, Any]
    files: dict[str, str]
    sizes: dict[str, int]


def manifest_text(manifest: Manifest) -> bytes:
    """What ``parse_manifest`` reads."""
    return sealed({"format": FORMAT, "version": FORMAT_VERSION, "kind": manifest.kind, "model": manifest.model,
                   "contract": manifest.contract.to_json(), "files": manifest.files, "sizes": manifest.sizes})


def parse_manifest(path: Path, data: bytes) -> Manifest:
    """The manifest that was read from ``path``, which errors name.

    Raises:
        ArtifactError: Not a manifest, of another version, changed since it was written, or with a field that is
            missing, of another type, unknown, or not what it seems.
    """
    found = _fields(path, data)
    files, sizes = _listed(path, found)
    return Manifest(found["kind"], _contract(path, found["contract"]), found["model"], files, sizes)


def _fields(path: Path, data: bytes) -> dict[str, Any]:
    """The fields of a manifest, each of its type."""
    manifest = parse_json(data, str(path), ArtifactError)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not an {FORMAT} manifest")
    version = manifest.get("version")
    if version == UNSEALED_VERSION:
        _say_it_is_unsealed(path)
        return _typed(path, manifest, FIELDS)
    if version != FORMAT_VERSION:
        raise ArtifactError(f"{path}: version {version!r:.40}, this edgekp reads {FORMAT_VERSION}; {AGAIN}")
    try:
        return _typed(path, unsealed(manifest), FIELDS | {"sizes": dict})
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; {AGAIN}") from error


def _typed(path: Path, manifest: dict[str, Any], expected: dict[str, type]) -> dict[str, Any]:
    """Refuse fields that are missing, of another type, or not ours."""
    for name, kind in expected.items():
        found = manifest.get(name)
        if not isinstance(found, kind) or isinstance(found, bool):
            raise ArtifactError(f"{path}: unusable field '{name}': {found!r:.40}, expected {kind.__name__}; {AGAIN}")
    unknown = sorted(manifest.keys() - expected.keys())
    if unknown:
        raise ArtifactError(f"{path}: unknown field '{unknown[0]}'; {AGAIN}")
    return manifest


def _listed(path: Path, manifest: dict[str, Any]) -> tuple[dict[str, str], dict[str, int]]:
    """Digests and sizes of the files that a manifest names, all of them in its folder."""
    files, sizes = manifest["files"], manifest.get("sizes", {})
    for name, digest in files.items():
        if Path(name).name != name or "\0" in name:
            raise ArtifactError(f"{path}: names a file outside its folder: {name!r}; {AGAIN}")
        if not (isinstance(digest, str) and SHA256.fullmatch(digest)):
            raise ArtifactError(f"{path}: unusable field 'files.{name}': {digest!r:.40}, expected a sha256; {AGAIN}")
    if "sizes" in manifest and (sizes.keys() != files.keys() or any(type(size) is not int for size in sizes.values())):
        raise ArtifactError(f"{path}: unusable field 'sizes', expected a number of bytes for each file; {AGAIN}")
    return files, sizes


def _contract(path: Path, fields: dict[str, Any]) -> AnyContract:
    """What the fields say; refused where one is unknown, or means something else than it says."""
    try:
        contract = contract_from_json(fields)
        understood = dict(flatten(json.loads(json.dumps(contract.to_json()))))
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, EdgekpError) as error:
        raise ArtifactError(f"{path}: unusable field 'contract' ({error}); {AGAIN}") from error
    for name, value in flatten(fields):
        if name not in understood or understood[name] != value:
            raise ArtifactError(f"{path}: unusable field 'contract.{name}': {value!r:.40}; {AGAIN}")
    return contract


@cache  # once a process: folders are opened again and again
def _say_it_is_unsealed(path: Path) -> None:
    say(f"artifact: {path} is of an edgekp that stated no digest of the manifest itself, so a changed field may not "
        "show; make it again to be sure")
