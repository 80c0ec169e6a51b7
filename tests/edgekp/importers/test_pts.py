"""300-W: the first pixel is 1 as in menpo; with or without the header; an image for each file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

XY = np.random.default_rng(0).uniform(10, 80, (68, 2)).round(3)
LINES = "\n".join(f"{x} {y}" for x, y in XY.tolist())
PTS = f"version: 1\nn_points:  68\n{{\n{LINES}\n}}\n"


@pytest.fixture
def folder(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    draw_image(tmp_path / "set/face.v1.png")
    return tmp_path / "set"


@pytest.mark.parametrize("text", [PTS, PTS.replace("\n", "\r\n"), LINES, PTS.replace("{", "{ ").lower(),
                                  PTS.replace("version: 1", "version: 1.0")],
                         ids=["iBUG", "Windows", "no header", "spaces", "version"])
def test_a_face_comes_back_one_pixel_to_the_upper_left(folder: Path, import_labels: Any, text: str) -> None:
    (folder / "face.v1.pts").write_bytes(text.encode())
    result = import_labels("300w", folder, skeleton="ibug68")
    np.testing.assert_allclose(result.triplets[0, :, :2], XY - 1, rtol=0, atol=1e-6)
    assert (result.triplets[0, :, 2] == 2).all()
    entry, = result.document["annotations"]
    low, high = XY.min(0) - 1, XY.max(0) - 1
    assert entry["bbox"] == pytest.approx([*low, *(high - low + 1)])
    assert entry["bbox_source"] == "keypoints x 1"
    assert entry["area"] == pytest.approx(np.prod(high - low + 1))
    assert result.document["categories"][0]["name"] == "face"


def test_the_first_pixel_can_be_kept(folder: Path, import_labels: Any) -> None:
    (folder / "face.v1.pts").write_text(PTS)
    result = import_labels("300w", folder / "face.v1.pts", "--first-pixel", "0", skeleton="ibug68")
    np.testing.assert_array_equal(result.triplets[0, :, :2], XY)


def test_folders_in_folders_and_images_in_other_ones(folder: Path, tmp_path: Path, import_labels: Any,
                                                     draw_image: Callable[..., Path]) -> None:
    (folder / "face.v1.pts").write_text(PTS)
    (folder / "more").mkdir()
    (folder / "more/b.pts").write_text(LINES)
    draw_image(folder / "more/b.JPG".lower())
    result = import_labels("300w", folder, skeleton="ibug68")
    assert [image["file_name"] for image in result.document["images"]] == ["set/face.v1.png", "set/more/b.jpg"]
    for name in ("face.v1.jpg", "more/b.bmp"):
        draw_image(tmp_path / "images" / name)
    result = import_labels("300w", folder, "--images", tmp_path / "images", skeleton="ibug68")
    assert [image["file_name"] for image in result.document["images"]] == ["images/face.v1.jpg", "images/more/b.bmp"]


def test_points_of_another_skeleton(folder: Path, bug: str, import_labels: Any) -> None:
    (folder / "face.v1.pts").write_text("n_points: 4\n{\n1 1\n11 1\n1 21\n11 21\n}\n")
    result = import_labels("300w", folder, "--skeleton", bug, skeleton=bug)
    assert result.triplets[0, :, :2].tolist() == [[0, 0], [10, 0], [0, 20], [10, 20]]
    assert result.document["annotations"][0]["bbox_source"] == "keypoints x 1.25"


@pytest.mark.parametrize(("old", "new", "message"), [
    (PTS, "", "0 points, expected some"),
    ("n_points:  68", "n_points: 67", "68 points, expected 67"),
    (f"{XY[-1, 0]} {XY[-1, 1]}\n", "", "67 points, expected 68"),
    (f"n_points:  68\n{{\n{XY[0, 0]} {XY[0, 1]}", "{", "67 points, skeleton 'ibug68' has 68; --skeleton"),
    ("n_points:  68", "n_points: many", "line 2: a value is no number"),
    (str(XY[0, 0]), "left", "line 4: a value is no number"),
    (str(XY[0, 0]), "nan", "line 4: a value is NaN"),
    (f" {XY[0, 1]}", "", "line 4: 1 values, expected 2"),
    (f" {XY[0, 1]}", f" {XY[0, 1]} 1", "line 4: 3 values, expected 2"),
    ("\n}", "", "braces {, expected one pair"),
    ("{", "} {", "line 3: a value is no number"),
    ("{\n", "}\n", "braces } }, expected one pair"),
    (str(XY[0, 0]), "900", "lies far outside"),
])
def test_a_damaged_file_is_refused_by_its_line(folder: Path, refusal: Any, old: str, new: str, message: str) -> None:
    assert old in PTS
    (folder / "face.v1.pts").write_text(PTS.replace(old, new, 1))
    line = refusal("300w", folder)
    assert message in line
    assert str(folder / "face.v1.pts") in line


def test_no_image_or_two_are_refused(folder: Path, refusal: Any, draw_image: Callable[..., Path]) -> None:
    (folder / "face.v1.pts").write_text(PTS)
    draw_image(folder / "face.v1.bmp")
    assert "2 images (face.v1.bmp, face.v1.png) named 'face.v1'" in refusal("300w", folder)
    for path in (*folder.glob("*.png"), *folder.glob("*.bmp")):
        path.unlink()
    assert "no image named 'face.v1'" in refusal("300w", folder)
    (folder / "face.v1.pts").unlink()
    assert "no .pts files (*.pts) there" in refusal("300w", folder)


def test_real_frames_of_300vw_are_one_pixel_from_mmposes_list(real_data: Path, import_labels: Any) -> None:
    """MMPose's JSON of the same frames keeps the numbers of the .pts files."""
    folder = real_data / "fixtures/mmpose_tests_data/300vw"
    listed = json.loads((folder / "anno_300vw.json").read_bytes())
    frames = {image["id"]: image["file_name"] for image in listed["images"]}
    checked = 0
    for annotation in listed["annotations"]:
        person, _, frame = frames[annotation["image_id"]].split("/")
        images = folder / person / "imgs"
        result = import_labels("300w", folder / person / "annot", "--images", images, skeleton="ibug68", images=images)
        index = [image["file_name"] for image in result.document["images"]].index(frame)
        theirs = np.array(annotation["keypoints"]).reshape(-1, 3)[:, :2]
        np.testing.assert_allclose(result.triplets[index, :, :2], theirs - 1, rtol=0, atol=1e-5)
        checked += 1
    assert checked == 3
