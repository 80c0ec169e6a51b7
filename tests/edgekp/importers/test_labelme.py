"""Labelme: what was clicked comes back half a pixel to the upper left, by instance, or the file is refused by name."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Json = dict[str, Any]


def shape(label: str, *points: list[float], kind: str = "point", group: int | None = None, **more: Any) -> Json:
    return {"label": label, "points": list(points), "group_id": group, "shape_type": kind, "flags": {}, **more}


def document(*shapes: Json, name: str = "a.png", **more: Any) -> Json:
    return {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": name,
            "imageData": base64.b64encode(b"not read").decode(), "imageHeight": 90, "imageWidth": 120, **more}


TWO_BUGS = document(
    shape("head", [20.5, 30.25], group=1), shape("tail", [40.0, 60.0], group=1, flags={"occluded": True}),
    shape("bug", [50.0, 70.0], [10.0, 20.0], kind="rectangle", group=1),
    shape("tail", [80.0, 50.0], group=2, description=" Occluded "), shape("left_wing", [90.0, 40.0], group=2),
    shape("bug", [70.0, 30.0], [100.0, 30.0], [100.0, 60.0], kind="polygon", group=2),
    shape("leaf", [1.0, 1.0], [9.0, 9.0], kind="rectangle", group=3), shape("sun", [5, 5], [6, 6], kind="circle"))


@pytest.fixture
def folder(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    draw_image(tmp_path / "set/a.png")
    return tmp_path / "set"


def write(folder: Path, content: Json, name: str = "a.json") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def test_points_come_back_by_name_and_group_with_the_first_pixels_centre_at_0(folder: Path, bug: str,
                                                                             import_labels: Any) -> None:
    write(folder, TWO_BUGS)
    result = import_labels("labelme", folder, "--skeleton", bug, skeleton=bug)
    np.testing.assert_array_equal(result.triplets, [
        [[20.0, 29.75, 2], [0, 0, 0], [0, 0, 0], [39.5, 59.5, 1]],
        [[0, 0, 0], [89.5, 39.5, 2], [0, 0, 0], [79.5, 49.5, 1]]])
    first, second = result.document["annotations"]
    assert (first["bbox"], first["bbox_source"]) == ([10, 20, 40, 50], "rectangle")
    assert (first["area"], first["area_source"]) == (pytest.approx(0.53 * 40 * 50), "box x 0.53")
    assert (second["bbox"], second["area"], second["area_source"]) == ([70, 30, 30, 30], 450, "outline")
    assert [entry["num_keypoints"] for entry in (first, second)] == [2, 2]
    assert result.document["images"] == [{"id": 1, "file_name": "set/a.png", "width": 120, "height": 90}]
    assert result.document["categories"] == [{
        "id": 1, "name": "bug", "keypoints": ["head", "left_wing", "right_wing", "tail"], "skeleton": [[1, 4]]}]
    assert "left out: 1 circle shapes, 1 rectangles and outlines without keypoints" in result.stderr


def test_without_groups_an_image_holds_one_instance_whose_box_is_that_of_its_keypoints(
        folder: Path, bug: str, import_labels: Any) -> None:
    write(folder, document(shape("head", [20.5, 30.5]), shape("tail", [39.5, 49.5])))
    result = import_labels("labelme", folder / "a.json", "--skeleton", bug, skeleton=bug)
    entry, = result.document["annotations"]
    # pixels 20 to 39 and 30 to 49: 20 wide, enlarged by 1.25 about the centre: 2.5 more to each side
    assert (entry["bbox"], entry["bbox_source"]) == ([17.5, 27.5, 25, 25], "keypoints x 1.25")
    assert entry["area"] == pytest.approx(0.53 * 625)


def test_the_box_of_keypoints_can_be_larger_and_never_leaves_the_image(folder: Path, bug: str,
                                                                      import_labels: Any) -> None:
    write(folder, document(shape("head", [0.5, 0.5]), shape("tail", [119.5, 49.5])))
    result = import_labels("labelme", folder, "--skeleton", bug, "--box-factor", "2", skeleton=bug)
    assert result.document["annotations"][0]["bbox"] == [0, 0, 120, 75]


def test_another_first_pixel_can_be_named(folder: Path, bug: str, import_labels: Any) -> None:
    write(folder, document(shape("head", [20.5, 30.5])))
    result = import_labels("labelme", folder, "--skeleton", bug, "--first-pixel", "1", skeleton=bug)
    assert result.triplets[0, 0].tolist() == [19.5, 29.5, 2]
    assert result.document["info"] == {"format": "labelme", "first_pixel": 1}


def test_images_in_other_folders_are_found_and_backslashes_are_slashes(
        folder: Path, bug: str, draw_image: Callable[..., Path], import_labels: Any) -> None:
    draw_image(folder / "day/photos/b.png")
    write(folder, document(shape("head", [1, 1]), name="photos\\b.png"), "day/b.json")
    write(folder, document(shape("head", [1, 1])))
    result = import_labels("labelme", folder, "--skeleton", bug, skeleton=bug)
    assert [image["file_name"] for image in result.document["images"]] == ["set/a.png", "set/day/photos/b.png"]


def test_with_images_only_the_name_of_the_file_counts(folder: Path, bug: str, import_labels: Any) -> None:
    write(folder / "json", document(shape("head", [1, 1]), name="..\\somewhere\\a.png"))
    result = import_labels("labelme", folder / "json", "--images", folder, "--skeleton", bug, skeleton=bug)
    assert result.document["images"][0]["file_name"] == "set/a.png"


def test_images_beside_the_result_or_elsewhere(tmp_path: Path, folder: Path, bug: str, command: Any,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, document(shape("head", [1, 1])))
    for out, file_name, is_told in ((folder / "here.json", "a.png", False), (tmp_path / "far/out.json", "a.png", True)):
        assert command("labelme", folder, "--skeleton", bug, "--out", out) == 0
        assert json.loads(out.read_text())["images"][0]["file_name"] == file_name
        assert (f'images = "{folder}"' in capsys.readouterr().err) == is_told


def test_a_result_among_the_labels_is_left_out_the_next_time(folder: Path, bug: str, command: Any,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, document(shape("head", [1, 1])))
    for _ in range(2):
        assert command("labelme", folder, "--skeleton", bug, "--out", folder / "out.json") == 0
    assert "left out: 1 COCO files" in capsys.readouterr().err


def test_images_without_an_instance_are_left_out_and_counted(folder: Path, bug: str, import_labels: Any) -> None:
    write(folder, document(shape("head", [1, 1])))
    write(folder, document(name="gone.png"), "gone.json")
    result = import_labels("labelme", folder, "--skeleton", bug, skeleton=bug)
    assert "1 images without an instance" in result.stderr


Damage = Callable[[Json], object]
BAD: dict[str, tuple[Damage, str]] = {
    "no shapes": (lambda d: d.pop("shapes"), "a.json: no Labelme file"),
    "shapes no list": (lambda d: d.update(shapes={}), "a.json: no Labelme file"),
    "shape no object": (lambda d: d["shapes"].append(5), "shape 8: 5, expected an object"),
    "no image path": (lambda d: d.pop("imagePath"), "no imagePath"),
    "image path a number": (lambda d: d.update(imagePath=5), "no imagePath"),
    "empty image path": (lambda d: d.update(imagePath=""), "no file name"),
    "path to the parent": (lambda d: d.update(imagePath="..\\a.png"), "leaves the folder"),
    "absolute path": (lambda d: d.update(imagePath="/etc/a.png"), "leaves the folder"),
    "path on a drive": (lambda d: d.update(imagePath="C:\\photos\\a.png"), "leaves the folder"),
    "path with a zero": (lambda d: d.update(imagePath="a\0.png"), "no file name"),
    "missing image": (lambda d: d.update(imagePath="b.png"), "1 of 1 images are not there: b.png"),
    "another size": (lambda d: d.update(imageWidth=240), "has 120 x 90 pixels, its labels were made on 240 x 90"),
    "size a word": (lambda d: d.update(imageWidth="wide"), "imageWidth and imageHeight: a value is no number"),
    "unknown keypoint": (lambda d: d["shapes"][0].update(label="heat"),
                         "shape 0 ('heat'): no keypoint 'heat'; did you mean 'head'"),
    "keypoint twice": (lambda d: d["shapes"][0].update(label="tail"), "keypoint 'tail' occurs twice"),
    "point without a group": (lambda d: d["shapes"][0].update(group_id=None), "keypoint 'head' belongs to no group"),
    "group a list": (lambda d: d["shapes"][0].update(group_id=[1]), "group_id: [1], expected a number"),
    "group true": (lambda d: d["shapes"][0].update(group_id=True), "group_id: True, expected a number"),
    "two rectangles": (lambda d: d["shapes"].append({**d["shapes"][2]}), "a second rectangle"),
    "point of two": (lambda d: d["shapes"][0]["points"].append([1, 2]), "a point with 2 points, expected 1"),
    "point of none": (lambda d: d["shapes"][0].update(points=[]), "a point with 0 points, expected 1"),
    "points a word": (lambda d: d["shapes"][0].update(points="here"), "a point with no list of points"),
    "point of three numbers": (lambda d: d["shapes"][0].update(points=[[1, 2, 3]]), "3 values, expected 2"),
    "polygon of two": (lambda d: d["shapes"][5]["points"].pop(), "a polygon with 2 points, expected at least 3"),
    "coordinate NaN": (lambda d: d["shapes"][0].update(points=[[float("nan"), 2]]), "NaN or infinite"),
    "coordinate null": (lambda d: d["shapes"][0].update(points=[[None, 2]]), "a value is no number"),
    "keypoint far outside": (lambda d: d["shapes"][0].update(points=[[400, 2]]), "lies far outside its 120 x 90"),
    "flat rectangle": (lambda d: d["shapes"][2].update(points=[[1, 1], [9, 1]]), "expected a positive size"),
    "no keypoints at all": (lambda d: d.update(shapes=[]), "not one instance with a labelled keypoint"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_a_damaged_file_is_refused_by_its_place(folder: Path, bug: str, refusal: Any, damage: Damage,
                                                message: str) -> None:
    content = copy.deepcopy(TWO_BUGS)
    damage(content)
    write(folder, content)
    line = refusal("labelme", folder, "--skeleton", bug)
    assert message in line
    assert str(folder) in line


@pytest.mark.parametrize(("text", "message"), [
    ("{", "a.json: broken JSON at line 1"), ("[1]", "a.json: no Labelme file"), ("null", "no Labelme file"),
    ("[" * 100_000, "not a JSON text")])
def test_what_is_no_labelme_file_is_refused(folder: Path, bug: str, refusal: Any, text: str, message: str) -> None:
    (folder / "a.json").write_text(text)
    assert message in refusal("labelme", folder, "--skeleton", bug)


def test_a_folder_without_labels_and_one_that_is_not_there(folder: Path, bug: str, refusal: Any) -> None:
    assert "no Labelme files (*.json) there" in refusal("labelme", folder, "--skeleton", bug)
    assert "no such file or folder" in refusal("labelme", folder / "nothing", "--skeleton", bug)
    assert "no such file or folder" in refusal("labelme", folder, "--images", folder / "no", "--skeleton", bug)
