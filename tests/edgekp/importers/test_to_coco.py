"""From instances to COCO: boxes and areas as promised, and images held against what their labels say."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekp.errors import DataError
from edgekp.importers.checks import inside
from edgekp.importers.found import Found, Reading
from edgekp.importers.to_coco import coco_document, default_box_factor, keypoint_box
from edgekp.skeletons import COCO17, IBUG68, LSP14, SKELETONS

DrawImage = Callable[..., Path]


def person(rng: np.random.Generator, **fields: Any) -> Found:
    keypoints = np.concatenate([rng.uniform(5, 80, (14, 2)), np.full((14, 1), 2.0)], axis=1)
    return Found(**{"where": "labels: line 7", "image": "a.png", "keypoints": keypoints, **fields})


@pytest.fixture
def folder(tmp_path: Path, draw_image: DrawImage) -> Path:
    draw_image(tmp_path / "a.png")
    return tmp_path


def test_the_box_of_keypoints_covers_their_pixels_and_grows_about_its_centre() -> None:
    keypoints = np.array([[10, 20, 2], [19, 29, 1], [-900, 900, 0]], dtype=float)
    np.testing.assert_array_equal(keypoint_box(keypoints, 1), [10, 20, 10, 10])
    x, y, w, h = keypoint_box(keypoints, 1.5)
    assert (w, h) == (15, 15)
    assert (x + (w - 1) / 2, y + (h - 1) / 2) == (14.5, 24.5)


def test_faces_keep_the_box_of_their_keypoints_and_people_get_more() -> None:
    assert [default_box_factor(skeleton) for skeleton in (COCO17, LSP14, IBUG68)] == [1.25, 1.25, 1]


def test_boxes_of_keypoints_look_like_cocos(real_data: Path) -> None:
    """1.25 is measured: a smaller or a larger factor overlaps less with the boxes that COCO's annotators drew."""
    document = json.loads((real_data / "pose_coco17/train.json").read_bytes())
    people = [entry for entry in document["annotations"] if sum(v > 0 for v in entry.get("keypoints", [])[2::3]) >= 12]
    assert len(people) > 150

    def overlap(factor: float) -> float:
        return float(np.mean([iou(keypoint_box(np.reshape(entry["keypoints"], (-1, 3)), factor), entry["bbox"])
                              for entry in people]))

    assert overlap(1.25) > 0.75
    assert overlap(1.25) > max(overlap(1.1), overlap(1.45))


def iou(first: Any, second: Any) -> float:
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    common = np.clip(high - low, 0, None).prod()
    return float(common / (first[2:].prod() + second[2:].prod() - common))


def test_ids_start_at_1_and_images_are_listed_once(folder: Path, rng: np.random.Generator,
                                                   draw_image: DrawImage) -> None:
    draw_image(folder / "b.png", 100, 95)
    found = [person(rng), person(rng, image="b.png"), person(rng)]
    document = coco_document(Reading(folder, found), LSP14, 1.25, prefix="x/")
    assert [entry["id"] for entry in document["annotations"]] == [1, 2, 3]
    assert [entry["image_id"] for entry in document["annotations"]] == [1, 2, 1]
    assert document["images"] == [{"id": 1, "file_name": "x/a.png", "width": 120, "height": 90},
                                  {"id": 2, "file_name": "x/b.png", "width": 100, "height": 95}]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_limbs_count_from_1(folder: Path, skeleton: Any) -> None:
    keypoints = np.full((len(skeleton), 3), 2.0)
    document = coco_document(Reading(folder, [Found("here", "a.png", keypoints)]), skeleton, 1)
    category, = document["categories"]
    assert category["skeleton"] == [[a + 1, b + 1] for a, b in skeleton.limbs]
    assert category["name"] == ("face" if skeleton.name in ("ibug68", "wflw98") else "person")


def test_boxes_and_areas_that_a_format_has_are_kept(folder: Path, rng: np.random.Generator) -> None:
    found = person(rng, bbox_xywh=np.array([1.0, 2.0, 30.0, 40.0]), bbox_source="tool", area_px2=77.0,
                   area_source="outline", head_size_px=12.3456789)
    entry, = coco_document(Reading(folder, [found]), LSP14, 1.25)["annotations"]
    assert (entry["bbox"], entry["bbox_source"], entry["area"], entry["area_source"]) == (
        [1, 2, 30, 40], "tool", 77, "outline")
    assert entry["head_size_px"] == 12.345679


def test_unlabelled_keypoints_are_zero_and_instances_without_any_are_left_out(
        folder: Path, rng: np.random.Generator) -> None:
    some, none = person(rng), person(rng)
    some.keypoints[3] = [-5000, np.nan, 0]
    none.keypoints[:, 2] = 0
    reading = Reading(folder, [some, none])
    entry, = coco_document(reading, LSP14, 1.25)["annotations"]
    assert entry["keypoints"][9:12] == [0, 0, 0]
    assert entry["num_keypoints"] == 13
    assert reading.left_out["instances without a labelled keypoint"] == 1


def test_a_keypoint_a_little_outside_is_kept_and_its_box_stays_inside(folder: Path) -> None:
    """Real sets have labelled keypoints outside by up to a tenth of the longer side."""
    keypoints = np.zeros((14, 3))
    keypoints[0] = [-11.9, 101, 2]
    entry, = coco_document(Reading(folder, [Found("here", "a.png", keypoints)]), LSP14, 1.25)["annotations"]
    assert entry["bbox"] == [0, 89, 1, 1]
    for x, y in ((-12.1, 50), (131.1, 50), (50, 101.1)):
        keypoints[0] = [x, y, 2]
        with pytest.raises(DataError, match="far outside its 120 x 90 pixels"):
            coco_document(Reading(folder, [Found("here", "a.png", keypoints)]), LSP14, 1.25)


def exif(orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff


@pytest.mark.parametrize(("orientation", "is_turned"), [(1, False), (3, True), (6, True)])
def test_images_that_tools_show_turned_are_refused_where_a_tool_made_the_labels(
        folder: Path, rng: np.random.Generator, orientation: int, is_turned: bool) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((90, 120, 3), np.uint8))[1].tobytes()
    (folder / "a.jpg").write_bytes(jpeg[:2] + exif(orientation) + jpeg[2:])
    reading = Reading(folder, [person(rng, image="a.jpg")])
    assert coco_document(reading, LSP14, 1.25)["images"][0]["width"] == 120
    if is_turned:
        with pytest.raises(DataError, match=rf"line 7: image 'a.jpg' is shown turned \(EXIF orientation {orientation}"):
            coco_document(reading, LSP14, 1.25, refuse_turned=True)
    else:
        coco_document(reading, LSP14, 1.25, refuse_turned=True)


@pytest.mark.parametrize(("fields", "message"), [
    ({"image": "b.png"}, "1 of 1 images are not there: b.png; --images names another folder"),
    ({"image": "broken.png"}, r"broken\.png: its header is cut short"),
    ({"declared_wh": (90, 120)}, "has 120 x 90 pixels, its labels were made on 90 x 120"),
    ({"bbox_xywh": np.array([1.0, 2, 0, 3])}, r"line 7: box \[1\.0, 2\.0, 0\.0, 3\.0\], area 0; expected a positive"),
    ({"bbox_xywh": np.array([1.0, np.nan, 3, 3])}, "expected a positive size"),
    ({"area_px2": 0.0}, "area 0; expected a positive size"),
    ({"area_px2": 1e-9}, "area 0; expected a positive size"),  # nothing is left of it in six decimals
    ({"bbox_xywh": np.array([1.0, 2, 1e-9, 3])}, "expected a positive size"),
    ({"bbox_xywh": np.array([1.0, 2, 1e308, 3]), "area_px2": 9.0}, "expected a positive size"),  # rounds to infinity
    ({"head_size_px": 1e-9}, "PCKh divides by it"), ({"head_size_px": float("inf")}, "PCKh divides by it"),
    ({"area_px2": float("nan")}, "area nan; expected a positive size"),
    ({"keypoints": np.zeros((14, 3))}, "not one instance with a labelled keypoint"),
])
def test_what_cannot_be_used_is_refused(folder: Path, rng: np.random.Generator, fields: dict[str, Any],
                                        message: str) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=message) as caught:
        coco_document(Reading(folder, [person(rng, **fields)]), LSP14, 1.25)
    assert "\n" not in str(caught.value)


def test_of_many_missing_images_three_are_named(folder: Path, rng: np.random.Generator) -> None:
    found = [person(rng, image=f"{number}.png") for number in range(5)]
    with pytest.raises(DataError, match=r"5 of 5 images are not there: 0\.png, 1\.png, 2\.png and others"):
        coco_document(Reading(folder, found), LSP14, 1.25)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "folder/" * 40 + "a.png", "字" * 90 + ".png"])
def test_a_name_longer_than_a_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="is no file name of an image"):
        inside(name, "here")
