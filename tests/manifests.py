"""Manifests that somebody rewrote with intent: every digest fits, so that the check behind the digests is tested."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekp.atomic import sha256
from edgekp.manifest import MANIFEST
from edgekp.sealed_json import SEAL, sealed

Change = Callable[[dict[str, Any]], Any]


def rewrite_manifest(folder: Path, change: Change) -> None:
    """Change fields of a manifest, and the digest that it states of itself."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest[SEAL]
    change(manifest)
    (folder / MANIFEST).write_bytes(sealed(manifest))


def accept_files(folder: Path, change: Change = lambda manifest: None) -> None:
    """``rewrite_manifest`` with the digests and sizes that the listed files now have."""
    def accept(manifest: dict[str, Any]) -> None:
        change(manifest)
        paths = {name: folder / name for name in manifest["files"]}
        manifest |= {"files": {name: sha256(path) for name, path in paths.items()},
                     "sizes": {name: path.stat().st_size for name, path in paths.items()}}

    rewrite_manifest(folder, accept)
