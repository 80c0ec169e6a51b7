"""The joints.mat of Leeds Sports Pose."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from edgekp.importers.found import Wanted
from edgekp.importers.lsp import read_lsp
from fuzz.drawn import importer, png_header, points
from fuzz.target import Read, Target

ORIGINAL = np.concatenate([np.array(points(14)).T, np.zeros((1, 14))])  # (3, K)


def mat(joints: np.ndarray, packed: bool = False) -> bytes:
    file = io.BytesIO()
    savemat(file, {"joints": joints}, do_compression=packed)
    return file.getvalue()


def reader(folder: Path) -> Read:
    for name in ("im0001.jpg", "im0002.jpg", "im00001.jpg"):
        (folder / name).write_bytes(png_header())
    return importer("lsp14", lambda source, known: read_lsp(source, Wanted(known, source.parent, 1.0)),
                    lambda _: ".mat")(folder)


TARGET = Target((mat(np.stack([ORIGINAL, ORIGINAL], -1)), mat(ORIGINAL.T[..., None] + [0.0]), mat(ORIGINAL, True)),
                reader, (b"joints", b"\x0e\0\0\0", b"\x0f\0\0\0", b"\x06\0\0\0\x08\0\0\0", b"\x05\0\0\0\x0c\0\0\0"))
