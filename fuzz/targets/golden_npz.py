"""golden.npz in a folder whose manifest has its digest: a whole archive, or one vector of a sound archive."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from edgekp.artifact import GOLDEN, verify_artifact
from edgekp.atomic import sha256
from edgekp.golden import make_golden
from edgekp.manifest import MANIFEST
from edgekp.sealed_json import sealed, unsealed
from fuzz.drawn import CONTRACT, artifact_in
from fuzz.target import Read, Target

ARCHIVE = b"PK"
SOUND = make_golden(CONTRACT)
NAMES = sorted(SOUND)


def vector(name: str) -> bytes:
    """A first byte that says which one, then the .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(SOUND[name]))
    return bytes([NAMES.index(name)]) + file.getvalue()


def archive_of(data: bytes) -> bytes:
    """The bytes of golden.npz; checksums fit, so that a changed vector is read."""
    if data.startswith(ARCHIVE) or not data:
        return data
    changed, file = NAMES[data[0] % len(NAMES)], io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in NAMES:
            archive.writestr(f"{name}.npy", data[1:] if name == changed else vector(name)[1:])
    return file.getvalue()


def reader(folder: Path) -> Read:
    own = artifact_in(folder / "own")
    manifest = unsealed(json.loads((own / MANIFEST).read_bytes()))

    def read(data: bytes) -> None:
        (own / GOLDEN).write_bytes(archive_of(data))
        manifest["files"][GOLDEN], manifest["sizes"][GOLDEN] = sha256(own / GOLDEN), (own / GOLDEN).stat().st_size
        (own / MANIFEST).write_bytes(sealed(manifest))
        verify_artifact(own)
    return read


TARGET = Target((vector("bbox_xywh"), vector("scores"), vector("padded"), archive_of(vector("names"))[:4000]), reader,
                (b"\x93NUMPY\x01\0", b"'descr': '|O'", b"'<f8'", b"'<c16'", b"'|S9'", b"'shape': (",
                 b"(9999999999999,)", b"True", b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"))
