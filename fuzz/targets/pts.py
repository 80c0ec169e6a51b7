"""iBUG's .pts files."""

from __future__ import annotations

from edgekp.importers.found import Wanted
from edgekp.importers.pts import read_pts
from fuzz.drawn import importer, points
from fuzz.target import Target

LINES = "\n".join(f"{x} {y}" for x, y in points(68))

TARGET = Target((f"version: 1\nn_points: 68\n{{\n{LINES}\n}}\n".encode(), LINES.encode()),
                importer("ibug68", lambda source, known: read_pts(source, Wanted(known, None, 1.0)), lambda _: ".pts"),
                (b"n_points:", b"version:", b"{", b"}", b"\n", b"\x0c", b"1e999", b"nan", b"1_0", b"\xef\xbb\xbf"))
