"""WFLW's lists."""

from __future__ import annotations

from edgekp.importers.found import Wanted
from edgekp.importers.wflw import read_wflw
from fuzz.drawn import PICTURE, importer, points
from fuzz.target import Target

LINE = " ".join(f"{x} {y}" for x, y in points(98)) + f" 5 4 55 45 0 0 0 0 0 0 {PICTURE}\n"

TARGET = Target((LINE.encode(), 2 * LINE.encode()),
                importer("wflw98", lambda source, known: read_wflw(source, Wanted(known, source.parent, 0.0)),
                         lambda _: ".txt"),
                (b"\n", b" ", b"\x0c", b"1e999", b"nan", b"1_0", b"\xef\xbb\xbf", b"../", PICTURE.encode()))
