"""Results of others in COCO's format, scored against a ground truth."""

from __future__ import annotations

from pathlib import Path

from edgekp.skeletons import COCO17
from eval.ground_truth import read_ground_truth
from eval.results import lay_beside, read_results
from fuzz.drawn import as_json, coco, points
from fuzz.target import Read, Target

KEYPOINTS = [value for x, y in points(17) for value in (x, y, 0.9)]
NAMED = {"image_id": 1, "category_id": 1, "keypoints": KEYPOINTS, "score": 0.8, "annotation_id": 1,
         "bbox": [8.5, 4.0, 44.0, 30.0]}
FOREIGN = {"image_id": 1, "keypoints": [value for x, y in points(17) for value in (x, y)]}


def reader(folder: Path) -> Read:
    labels, path = folder / "labels.json", folder / "results.json"
    labels.write_bytes(as_json(coco()))
    truth = read_ground_truth(labels, COCO17)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        scored = lay_beside(truth, read_results(path, truth))
        assert scored.triplets.shape[1:] == (17, 3)
        scored.error_px.sum()
    return read


TARGET = Target((as_json([NAMED]), as_json([FOREIGN, FOREIGN]), as_json([NAMED, FOREIGN])), reader,
                (b'"annotation_id"', b'"score"', b'"bbox"', b"1e999", b"NaN"))
