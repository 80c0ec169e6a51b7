"""VIA's projects, and its annotations as JSON or CSV."""

from __future__ import annotations

from edgekp.importers.found import Wanted
from edgekp.importers.via import CSV_HEADER, read_via
from fuzz.drawn import PICTURE, as_json, importer
from fuzz.target import Target

ATTRIBUTES = {"keypoint": "nose", "instance": "1", "occluded": {"yes": True}}
REGIONS = [{"shape_attributes": {"name": "point", "cx": 20, "cy": 9}, "region_attributes": ATTRIBUTES},
           {"shape_attributes": {"name": "rect", "x": 2, "y": 3, "width": 40, "height": 30},
            "region_attributes": {"instance": "1"}},
           {"shape_attributes": {"name": "polygon", "all_points_x": [2, 30, 9], "all_points_y": [3, 4, 40]},
            "region_attributes": {"instance": "1"}}]
PICTURES = {"a": {"filename": PICTURE, "size": -1, "regions": REGIONS, "file_attributes": {}}}
CSV = f"""{','.join(CSV_HEADER)}
{PICTURE},-1,"{{}}",1,0,"{{""name"":""point"",""cx"":20,""cy"":9}}","{{""keypoint"":""nose""}}"
"""


TARGET = Target((as_json(PICTURES), as_json({"_via_img_metadata": PICTURES}), CSV.encode()),
                importer("coco17", lambda source, known: read_via(source, Wanted(known, None, 0.0),
                                                                  keypoint_attribute="keypoint",
                                                                  instance_attribute="instance"),
                         lambda data: ".json" if data[:1] == b"{" else ".csv"),
                (b'"all_points_x"', b'"region_attributes"', b'"name"', b'""', b'"', b"\r", b"\n", b",", b"1e999",
                 b"NaN"))
