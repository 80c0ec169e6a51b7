"""YOLO-pose: fractions of the image's size become COCO's coordinates again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

POINTS = np.array([[20, 30, 2], [40, 60, 1], [0, 0, 0], [80, 45, 2]], dtype=float)  # of a bug in 120 x 90 pixels
BOX = np.array([10.0, 20.0, 80.0, 50.0])
WH = np.array([120, 90])


def line(points: np.ndarray = POINTS, category: int = 0, values: int = 3) -> str:
    box = [*((BOX[:2] + BOX[2:] / 2) / WH), *(BOX[2:] / WH)]
    rows = np.concatenate([points[:, :2] / WH, points[:, 2:]], axis=1)[:, :values]
    return " ".join([str(category), *(f"{value:.6f}" for value in [*box, *rows.ravel()])])


@pytest.fixture
def labels(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    """labels/train with a.txt; images/train with a.png."""
    draw_image(tmp_path / "set/images/train/a.png")
    folder = tmp_path / "set/labels/train"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text(line() + "\n")
    return folder


def test_fractions_become_pixels_and_images_are_beside_the_labels(labels: Path, bug: str, import_labels: Any) -> None:
    result = import_labels("yolo-pose", labels, "--skeleton", bug, skeleton=bug)
    np.testing.assert_allclose(result.triplets[0], POINTS, rtol=0, atol=120 * 5e-7)  # six decimals of 120 pixels
    entry, = result.document["annotations"]
    np.testing.assert_allclose(entry["bbox"], BOX, rtol=0, atol=120 * 1e-6)
    assert entry["bbox_source"] == "YOLO"
    assert result.document["images"][0]["file_name"] == "set/images/train/a.png"


def test_without_visibilities_what_is_at_the_origin_or_beyond_is_not_labelled(labels: Path, bug: str,
                                                                             import_labels: Any) -> None:
    points = np.array([[20, 0, 0], [0, 0, 0], [-6, 30, 0], [0, 45, 0]], dtype=float)
    (labels / "a.txt").write_text(line(points, values=2))
    result = import_labels("yolo-pose", labels, "--skeleton", bug, skeleton=bug)
    assert result.triplets[0, :, 2].tolist() == [2, 0, 0, 2]
    np.testing.assert_allclose(result.triplets[0, [0, 3], :2], [[20, 0], [0, 45]], atol=1e-4)


def test_the_last_folder_called_labels_becomes_images(tmp_path: Path, bug: str, import_labels: Any,
                                                      draw_image: Callable[..., Path]) -> None:
    folder = tmp_path / "labels/set/labels"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text(line())
    draw_image(tmp_path / "labels/set/images/a.png")
    result = import_labels("yolo-pose", folder / "a.txt", "--skeleton", bug, skeleton=bug)
    assert result.document["images"][0]["file_name"] == "labels/set/images/a.png"


def test_images_can_be_named_and_empty_files_are_counted(labels: Path, tmp_path: Path, bug: str,
                                                         import_labels: Any) -> None:
    (labels / "empty.txt").write_text("\n")
    (tmp_path / "set/images").rename(tmp_path / "pictures")
    images = tmp_path / "pictures/train"
    result = import_labels("yolo-pose", labels, "--images", images, "--skeleton", bug, skeleton=bug)
    assert result.document["images"][0]["file_name"] == "pictures/train/a.png"
    assert "left out: 1 images without an instance" in result.stderr


def test_one_class_of_several_is_chosen(labels: Path, bug: str, import_labels: Any, refusal: Any) -> None:
    (labels / "a.txt").write_text(f"{line()}\n{line(category=3)}\n{line(category=3)}\n")
    assert "instances of classes 0, 3; choose one: --class" in refusal("yolo-pose", labels, "--skeleton", bug)
    result = import_labels("yolo-pose", labels, "--skeleton", bug, "--class", 3, skeleton=bug)
    assert len(result.document["annotations"]) == 2
    assert "1 instances of other classes" in result.stderr


def test_a_class_that_nobody_has_is_refused(labels: Path, bug: str, refusal: Any) -> None:
    assert "not one instance" in refusal("yolo-pose", labels, "--skeleton", bug, "--class", 1)


WORDS = line().split()


def with_word(index: int, word: str) -> str:
    return " ".join([*WORDS[:index], word, *WORDS[index + 1:]])


@pytest.mark.parametrize(("text", "message"), [
    (" ".join(WORDS[:-1]), "line 2: 16 values, expected 17 or 13"),
    (line() + " 0", "line 2: 18 values"),
    (with_word(1, "left"), "line 2: a value is no number"),
    (with_word(5, "nan"), "line 2: a value is NaN"),
    (with_word(0, "0.5"), "line 2: expected a class number"),
    (with_word(0, "-1"), "line 2: expected a class number"),
    (with_word(5, "20"), "line 2: expected a class number, then fractions"),
    (with_word(3, "40"), "line 2: expected a class number, then fractions"),
    (with_word(7, "3"), "line 2: visibility 3, expected 0 or 1 or 2"),
    (with_word(7, "0.9"), "line 2: visibility 0.9, expected"),
    (with_word(3, "0"), "line 2: box"),
    (with_word(5, "1.3"), "line 2: image 'a.png': keypoint (156.0, 30.0)"),
])
def test_a_damaged_line_is_refused_by_its_number(labels: Path, bug: str, refusal: Any, text: str, message: str) -> None:
    (labels / "a.txt").write_text(f"{line()}\n{text}\n")
    answer = refusal("yolo-pose", labels, "--skeleton", bug)
    assert message in answer
    assert str(labels / "a.txt") in answer


def test_missing_images_and_folders_are_refused(labels: Path, tmp_path: Path, bug: str, refusal: Any) -> None:
    (labels / "b.txt").write_text(line())
    assert "b.txt: no image named 'b'" in refusal("yolo-pose", labels, "--skeleton", bug)
    (tmp_path / "plain").mkdir()
    assert "no folder 'labels' in its path" in refusal("yolo-pose", tmp_path / "plain", "--skeleton", bug)
    (tmp_path / "labels").mkdir()
    assert "no label files (*.txt)" in refusal("yolo-pose", tmp_path / "labels", "--skeleton", bug)


def test_real_coco_people_survive_a_round_trip(real_data: Path, tmp_path: Path, import_labels: Any) -> None:
    """COCO written as YOLO text with six decimals, as converters do, comes back to a thousandth of a pixel."""
    truth = json.loads((real_data / "pose_coco17/val.json").read_bytes())
    images = {image["id"]: image for image in truth["images"]}
    kept = [entry for entry in truth["annotations"] if any(entry.get("keypoints", [])[2::3])]
    kept.sort(key=lambda entry: Path(images[entry["image_id"]]["file_name"]).stem)
    for entry in kept:
        image = images[entry["image_id"]]
        wh = np.array([image["width"], image["height"]])
        triplets, box = np.array(entry["keypoints"], dtype=float).reshape(-1, 3), np.array(entry["bbox"])
        values = [*((box[:2] + box[2:] / 2) / wh), *(box[2:] / wh),
                  *np.concatenate([triplets[:, :2] / wh, triplets[:, 2:]], axis=1).ravel()]
        with (tmp_path / Path(image["file_name"]).with_suffix(".txt").name).open("a") as file:
            file.write(" ".join(["0", *(f"{value:.6f}" for value in values)]) + "\n")
    folder = (real_data / "pose_coco17" / truth["images"][0]["file_name"]).parent
    result = import_labels("yolo-pose", tmp_path, "--images", folder, skeleton="coco17", images=folder)
    np.testing.assert_allclose(result.triplets, np.array([entry["keypoints"] for entry in kept]).reshape(-1, 17, 3),
                               rtol=0, atol=640 * 5e-7 + 1e-6)
    np.testing.assert_allclose([entry["bbox"] for entry in result.document["annotations"]],
                               [entry["bbox"] for entry in kept], rtol=0, atol=640 * 1e-6 + 1e-6)
