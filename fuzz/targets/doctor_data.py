"""The doctor of data sets: it takes COCO files that are wrong in every way, and mends them."""

from __future__ import annotations

import json
from pathlib import Path

from edgekp.doctor.examine import examine
from edgekp.doctor.fix import mended
from edgekp.doctor.reading import read_sets
from edgekp.doctor.report import records, text
from fuzz.drawn import PICTURE, as_json, coco, png_header
from fuzz.target import Read, Target


def reader(folder: Path) -> Read:
    (folder / PICTURE).write_bytes(png_header())
    path = folder / "labels.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        sets = read_sets([path], None, None, None, decode=False)
        findings = examine(sets)
        text(sets, findings, [])
        records(findings)
        json.dumps(mended(sets[0])[0])
    return read


TARGET = Target((as_json(coco()), as_json(coco() | {"annotations": [{}, {"id": 1.0, "keypoints": [1, 2, 3]}]})), reader,
                (b'"keypoints"', b'"bbox"', b'"skeleton"', b'"id"', b"1e999", b"NaN"))
