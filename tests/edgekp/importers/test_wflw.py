"""WFLW: a line is a face; another number of words is refused by its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

XY = np.random.default_rng(0).uniform(10, 80, (98, 2)).round(6)


def line(name: str = "9--Press/a.png", xy: np.ndarray = XY) -> str:
    return " ".join(map(str, [*xy.ravel().tolist(), 10, 20, 90, 80, 0, 1, 0, 0, 1, 0, name]))


@pytest.fixture
def source(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    """A list in the folders of the official archives."""
    draw_image(tmp_path / "WFLW_images/9--Press/a.png")
    path = tmp_path / "WFLW_annotations/list_98pt_rect_attr_train_test/train.txt"
    path.parent.mkdir(parents=True)
    path.write_text(f"{line()}\n\n{line(xy=XY + 1)}\n")
    return path


def test_faces_come_back_as_they_are_with_their_boxes(source: Path, import_labels: Any) -> None:
    result = import_labels("wflw", source, skeleton="wflw98")
    np.testing.assert_allclose(result.triplets[..., :2], [XY, XY + 1], rtol=0, atol=1e-6)  # six decimals are kept
    assert (result.triplets[..., 2] == 2).all()
    for entry in result.document["annotations"]:
        assert (entry["bbox"], entry["bbox_source"]) == ([10, 20, 80, 60], "WFLW")
        assert (entry["area"], entry["area_source"]) == (4800, "box x 1")
    assert result.document["images"] == [
        {"id": 1, "file_name": "WFLW_images/9--Press/a.png", "width": 120, "height": 90}]
    assert result.document["categories"][0]["name"] == "face"


def test_images_in_another_folder(source: Path, tmp_path: Path, import_labels: Any) -> None:
    (tmp_path / "WFLW_images").rename(tmp_path / "pictures")
    result = import_labels("wflw", source, "--images", tmp_path / "pictures", skeleton="wflw98")
    assert result.document["images"][0]["file_name"] == "pictures/9--Press/a.png"


def test_a_first_pixel_of_1_moves_keypoints_and_leaves_boxes(source: Path, import_labels: Any) -> None:
    result = import_labels("wflw", source, "--first-pixel", "1", skeleton="wflw98")
    np.testing.assert_allclose(result.triplets[0, :, :2], XY - 1, atol=1e-6)
    assert result.document["annotations"][0]["bbox"] == [10, 20, 80, 60]


@pytest.mark.parametrize(("text", "message"), [
    (line().partition(" ")[2], "line 2: 206 words, expected 207: 98 x and y, a box"),
    (line("a b.png"), "line 2: 208 words"),
    (line().replace(str(XY[0, 0]), "left", 1), "line 2: a value is no number"),
    (line().replace(str(XY[0, 0]), "nan", 1), "line 2: a value is NaN"),
    (line("../a.png"), "line 2: image '../a.png' leaves"),
    (line("b.png"), "1 of 2 images are not there: b.png"),
    (line().replace(" 10 20 90 80 ", " 90 20 10 80 "), "line 2: box [90.0, 20.0, -80.0, 60.0]"),
    (line(xy=XY * 9), "line 2: image '9--Press/a.png': keypoint"),
])
def test_a_damaged_line_is_refused_by_its_number(source: Path, refusal: Any, text: str, message: str) -> None:
    source.write_text(f"{line()}\n{text}\n")
    assert message in refusal("wflw", source)


def test_a_list_that_is_missing_empty_or_no_text(source: Path, refusal: Any) -> None:
    source.write_text("\n")
    assert "not one instance" in refusal("wflw", source)
    source.write_bytes(b"\xff")
    assert "not a text file" in refusal("wflw", source)
    assert "cannot be read" in refusal("wflw", source.parent)
