"""Label files of YOLO-pose."""

from __future__ import annotations

from edgekp.importers.found import Wanted
from edgekp.importers.yolo_pose import read_yolo_pose
from fuzz.drawn import HEIGHT, WIDTH, importer, points
from fuzz.target import Target

PLACES = [(x / WIDTH, y / HEIGHT) for x, y in points(17)]
LINE = "0 0.5 0.5 0.75 0.75 " + " ".join(f"{x:g} {y:g} 2" for x, y in PLACES) + "\n"
SHORT = "0 0.5 0.5 0.75 0.75 " + " ".join(f"{x:g} {y:g}" for x, y in PLACES) + "\n"

TARGET = Target((LINE.encode(), SHORT.encode(), (LINE + SHORT).encode()),
                importer("coco17", lambda source, known: read_yolo_pose(source, Wanted(known, source.parent, 0.0),
                                                                        class_number=None), lambda _: ".txt"),
                (b"\n", b" ", b"1e999", b"nan", b"1_0", b"-0.0", b"1e300"))
