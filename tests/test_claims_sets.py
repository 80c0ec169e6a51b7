"""The label sets that ``benchmarks.claims`` makes: small people, people behind a table, shaky labels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.claims import made_sets
from edgekp.coco import read_coco
from edgekp.preprocess import read_image
from edgekp.skeletons import COCO17
from tests import tiny


def test_small_people_are_where_they_were_in_the_large_picture(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.mkdir()
    small.mkdir()
    document = json.loads(tiny.write_coco(large, "val", 4).read_bytes())
    before = [np.array(entry["keypoints"]).reshape(-1, 3) for entry in document["annotations"]]
    made = made_sets.make_small(document, large, small, "val")
    (small / "labels.json").write_text(json.dumps(made))
    for instance, old in zip(read_coco(small / "labels.json", COCO17).instances, before, strict=True):
        np.testing.assert_allclose((instance.keypoints_xy + 0.5) * made_sets.SMALLER - 0.5, old[:, :2])
        assert read_image(instance.image.path).shape[:2] == (tiny.IMAGE_HW[0] // 4, tiny.IMAGE_HW[1] // 4)


def test_in_training_every_other_picture_is_small(tmp_path: Path) -> None:
    document = json.loads(tiny.write_coco(tmp_path, "train", 4, per_image=1).read_bytes())
    (tmp_path / "small").mkdir()
    made = made_sets.make_small(document, tmp_path, tmp_path / "small", "train")
    assert [image["width"] for image in made["images"]] == [80, 20, 80, 20]
    assert [entry["area"] for entry in made["annotations"]] == [1000.0, 1001 / 16, 1002.0, 1003 / 16]


def upright_person() -> dict[str, object]:
    """Shoulders at row 20, hips at row 40, everything else of a COCO person between rows 10 and 60."""
    rows = [10] * 5 + [20, 20, 30, 30, 36, 36, 40, 40, 50, 50, 60, 60]
    keypoints = [[40 + (-1) ** k * 5, row, 2] for k, row in enumerate(rows)]
    return {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [30, 5, 20, 60], "area": 600.0,
            "keypoints": [value for triplet in keypoints for value in triplet]}


def test_behind_a_table_only_what_is_above_it_is_labelled_and_boxed(tmp_path: Path) -> None:
    document = json.loads(tiny.write_coco(tmp_path, "val", 2, per_image=1).read_bytes())
    document["annotations"] = [upright_person()]
    (tmp_path / "table").mkdir()
    made = made_sets.cut_behind_a_table(document, tmp_path, tmp_path / "table", "val")
    entry, = made["annotations"]
    keypoints = np.reshape(entry["keypoints"], (17, 3))
    assert (keypoints[:11, 2] == 2).all()
    assert (keypoints[11:] == 0).all()
    assert (entry["bbox"], entry["area"], entry["num_keypoints"]) == ([30, 5, 20, 35.0], 350.0, 11)
    before = read_image(tmp_path / document["images"][0]["file_name"])
    after = read_image(tmp_path / "table" / made["images"][0]["file_name"])
    assert likeness(before[:36], after[:36]) > 0.8  # JPEG halves the colour's resolution: 0.86
    assert likeness(before[44:], after[44:]) < 0.2


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the brightness of two pictures."""
    return float(np.corrcoef(first.mean(2).ravel(), second.mean(2).ravel())[0, 1])


def test_who_lies_down_has_no_waist_to_cut_at(tmp_path: Path) -> None:
    document = json.loads(tiny.write_coco(tmp_path, "val", 1).read_bytes())
    lying = np.reshape(upright_person()["keypoints"], (17, 3))
    lying[[5, 6], 1] = 45
    document["annotations"] = [upright_person() | {"keypoints": lying.ravel().tolist()}]
    assert made_sets.cut_behind_a_table(document, tmp_path, tmp_path, "val")["annotations"] == []


def test_labels_are_shaken_by_the_stated_share_of_the_eyes_distance() -> None:
    keypoints = np.tile([500.0, 500, 2], (68, 1))
    keypoints[made_sets.OUTER_EYES, 0] = 450, 550
    document = {"images": [{"id": 1, "width": 1000, "height": 1000}], "annotations": [
        {"id": number, "image_id": 1, "keypoints": keypoints.ravel().tolist()} for number in range(100)]}
    shaken = made_sets.shake(document, Path(), Path(), "train")["annotations"]
    moved = np.array([entry["keypoints"] for entry in shaken]).reshape(-1, 68, 3)[..., :2] - keypoints[:, :2]
    n = moved.size
    assert moved.std() == pytest.approx(0.15 * 100, rel=4 / math.sqrt(2 * n))
