"""MPII's MATLAB file, and the JSON lists that others made from it."""

from __future__ import annotations

import io

import numpy as np
from scipy.io import savemat

from edgekp.importers.found import Wanted
from edgekp.importers.mpii import read_mpii
from fuzz.drawn import PICTURE, as_json, importer, points
from fuzz.target import Target


def mat(packed: bool) -> bytes:
    """One person with 16 joints, as MPII nests it."""
    joints = np.array([(number, x, y, 1) for number, (x, y) in enumerate(points(16))],
                      dtype=[(name, object) for name in ("id", "x", "y", "is_visible")])
    person = {"annopoints": {"point": joints}, "objpos": {"x": 30, "y": 20}, "scale": 0.2, "x1": 20, "y1": 5, "x2": 30,
              "y2": 15}
    file = io.BytesIO()
    savemat(file, {"RELEASE": {"annolist": {"image": {"name": PICTURE}, "annorect": person}}}, do_compression=packed)
    return file.getvalue()


PERSON = {"image": PICTURE, "joints": [list(point) for point in points(16)], "joints_vis": [1] * 15 + [0],
          "center": [30.0, 20.0], "scale": 0.2}
TARGET = Target((mat(packed=False), mat(packed=True), as_json([PERSON])),
                importer("mpii16", lambda source, known: read_mpii(source, Wanted(known, source.parent, 1.0)),
                         lambda data: ".json" if data[:1] == b"[" else ".mat"),
                (b"RELEASE", b"annolist", b"\x0e\0\0\0", b"\x0f\0\0\0", b"\x06\0\0\0\x08\0\0\0", b"\x01\0\x04\0"))
