"""Labels at the door: what no metric may be computed from is refused, and what was measured on is known by content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.errors import DataError
from edgekp.skeletons import COCO17
from eval.ground_truth import GroundTruth, read_ground_truth

CROWD = {"image_id": 1, "category_id": 1, "iscrowd": 1, "area": 4e4, "bbox": [5, 5, 20, 20], "keypoints": [0] * 51}


def first_annotation(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["annotations"][0].update(fields)


def more(*annotations: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["annotations"].extend(annotations)


@pytest.mark.parametrize(("change", "problem"), [
    (first_annotation(area=0), "area 0.0, expected a number above 0; OKS divides by it"),
    (first_annotation(area=float("nan")), "area nan"),
    (first_annotation(id=2), "annotation id 2 occurs twice"),
    (first_annotation(image_id=99), "99|names an image that is not listed"),
    (first_annotation(keypoints=[float("nan")] * 51), "NaN"),
    (first_annotation(head_size_px=0), "head_size_px 0.0, expected a number above 0"),
    (first_annotation(head_size_px="big"), "lacks a usable"),
    (more(CROWD | {"id": 5}), "annotation id 5 occurs twice"),
    (more(CROWD | {"id": 90}, CROWD | {"id": 90}), "annotation id 90 occurs twice"),
    (more(CROWD | {"id": 90, "image_id": 77}), "image_id 77 is not among the file's images"),
    (more(CROWD | {"id": 90, "bbox": [1, 2, 3]}), "must be finite"),
    (more(CROWD | {"id": 90, "keypoints": [0] * 48}), "48 keypoint values, expected 3 x 17"),
    (lambda document: document["images"].append(document["images"][0]), "image id 1 occurs twice"),
    (lambda document: document.update(annotations=[]), "not one instance with a labelled keypoint"),
])
def test_labels_that_would_falsify_a_metric_are_refused(toy_truth: Callable[..., GroundTruth],
                                                        change: Callable[[dict[str, Any]], None], problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        toy_truth(n_images=8, change=change)
    assert "\n" not in str(caught.value)


def test_crowds_and_unlabelled_persons_are_known_but_not_measured(toy_truth: Callable[..., GroundTruth]) -> None:
    unlabelled = CROWD | {"id": 91, "iscrowd": 0}
    truth = toy_truth(n_images=4, change=more(CROWD | {"id": 90}, unlabelled))
    assert len(truth.labels.instances) == truth.n_measured_images == 4
    assert truth.annotations.ignored.tolist() == [False] * 4 + [True, True]
    assert truth.annotations.crowd.tolist() == [False] * 4 + [True, False]


def test_head_sizes_are_those_of_the_file(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth(n_images=2, change=first_annotation(head_size_px=12.5))
    np.testing.assert_array_equal(truth.head_size_px, [12.5, np.nan])


def test_the_digest_changes_with_the_labels(toy_data: Callable[..., Path], tmp_path: Path) -> None:
    path = toy_data(n_images=4)
    before = read_ground_truth(path, COCO17)
    copied = shutil.copytree(path.parent, tmp_path / "copy")
    again = read_ground_truth(copied / path.name, COCO17)
    assert again.labels_sha256 == before.labels_sha256
    path.write_text(json.dumps(json.loads(path.read_text()) | {"info": "other"}))
    assert read_ground_truth(path, COCO17).labels_sha256 != before.labels_sha256


def test_a_missing_image_is_named_before_anything_runs(toy_data: Callable[..., Path]) -> None:
    path = toy_data(n_images=4)
    (path.parent / "2.png").unlink()
    with pytest.raises(DataError, match=r"val\.json: 1 of 4 images with people are not there, first .*2\.png"):
        read_ground_truth(path, COCO17).require_images()
