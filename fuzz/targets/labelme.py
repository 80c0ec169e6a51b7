"""Labelme's JSON."""

from __future__ import annotations

from typing import Any

from edgekp.importers.found import Wanted
from edgekp.importers.labelme import read_labelme
from fuzz.drawn import HEIGHT, PICTURE, WIDTH, as_json, importer
from fuzz.target import Target

SHAPES = [{"label": "nose", "points": [[20.0, 9.0]], "group_id": 1, "shape_type": "point", "flags": {"occluded": True}},
          {"label": "left_eye", "points": [[22.0, 8.0]], "group_id": 1, "shape_type": "point"},
          {"label": "person", "points": [[2, 3], [40, 45]], "group_id": 1, "shape_type": "rectangle"},
          {"label": "person", "points": [[2, 3], [40, 45], [9, 40.5]], "group_id": 1, "shape_type": "polygon"},
          {"label": "x", "points": [[1, 1]], "shape_type": "circle"}]
DOCUMENT: dict[str, Any] = {"version": "5.0.1", "flags": {}, "shapes": SHAPES, "imagePath": PICTURE, "imageData": None,
            "imageHeight": HEIGHT, "imageWidth": WIDTH}

TARGET = Target((as_json(DOCUMENT), as_json(DOCUMENT | {"shapes": SHAPES[:1]})),
                importer("coco17", lambda source, known: read_labelme(source, Wanted(known, None, 0.5)),
                         lambda _: ".json"),
                (b'"points"', b'"group_id"', b'"shape_type"', b'"polygon"', b"1e999", b"NaN"))
