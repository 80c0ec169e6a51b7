"""CVAT: skeletons, grouped points and the COCO export give the same instances; an XML bomb stays a file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Json = dict[str, Any]

SKELETONS = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>bugs</name></task></meta>
  <image id="0" name="a.png" width="120" height="90">
    <skeleton label="bug" source="manual" z_order="0" group_id="7">
      <points label="tail" source="manual" outside="0" occluded="1" points="40.00,60.25"></points>
      <points label="head" source="manual" outside="0" occluded="0" points="20.50,30.00">
        <attribute name="sure">yes</attribute>
      </points>
      <points label="left_wing" source="manual" outside="1" occluded="0" points="1.00,1.00"></points>
    </skeleton>
    <box label="bug" source="manual" occluded="0" xtl="10.00" ytl="20.00" xbr="50.00" ybr="70.00" group_id="7"></box>
    <skeleton label="bug" source="manual" z_order="0">
      <points label="left_wing" outside="0" occluded="0" points="90.00,40.00"></points>
      <points label="tail" outside="0" occluded="1" points="80.00,50.00"></points>
    </skeleton>
    <box label="leaf" occluded="0" xtl="0.00" ytl="0.00" xbr="9.00" ybr="9.00"></box>
    <tag label="sunny"></tag>
  </image>
  <image id="1" name="b.png" width="120" height="90"></image>
</annotations>
"""
POINTS = """<annotations>
  <image id="0" name="a.png" width="120" height="90">
    <points label="tail" occluded="1" points="40.00,60.25" group_id="7"></points>
    <points label="head" occluded="0" points="20.50,30.00" group_id="7"></points>
    <box label="bug" xtl="50.00" ytl="70.00" xbr="10.00" ybr="20.00" group_id="7"></box>
    <points label="left_wing" occluded="0" points="90.00,40.00" group_id="8"></points>
    <points label="tail" occluded="1" points="80.00,50.00" group_id="8"></points>
  </image>
</annotations>
"""
EXPECTED = [[[20, 29.5, 2], [0, 0, 0], [0, 0, 0], [39.5, 59.75, 1]],
            [[0, 0, 0], [89.5, 39.5, 2], [0, 0, 0], [79.5, 49.5, 1]]]


@pytest.fixture
def folder(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    draw_image(tmp_path / "set/a.png")
    return tmp_path / "set"


@pytest.mark.parametrize("text", [SKELETONS, POINTS], ids=["skeletons", "grouped points"])
def test_skeletons_and_grouped_points_give_the_same(folder: Path, bug: str, import_labels: Any, text: str) -> None:
    (folder / "annotations.xml").write_text(text)
    result = import_labels("cvat", folder / "annotations.xml", "--skeleton", bug, skeleton=bug)
    np.testing.assert_array_equal(result.triplets, EXPECTED)
    first, second = result.document["annotations"]
    assert (first["bbox"], first["bbox_source"]) == ([10, 20, 40, 50], "rectangle")
    assert second["bbox_source"] == "keypoints x 1.25"


def test_what_is_no_instance_is_counted(folder: Path, bug: str, import_labels: Any) -> None:
    (folder / "annotations.xml").write_text(SKELETONS)
    said = import_labels("cvat", folder / "annotations.xml", "--skeleton", bug, skeleton=bug).stderr
    assert "1 tag shapes" in said
    assert "1 rectangles and outlines without keypoints" in said
    assert "1 images without an instance" in said


def test_images_are_found_in_the_folder_that_cvat_exports(folder: Path, bug: str, draw_image: Callable[..., Path],
                                                          import_labels: Any) -> None:
    draw_image(folder / "images/day/b.png")
    (folder / "annotations.xml").write_text(POINTS.replace("a.png", "day/b.png"))
    result = import_labels("cvat", folder / "annotations.xml", "--skeleton", bug, skeleton=bug)
    assert result.document["images"][0]["file_name"] == "set/images/day/b.png"


def test_an_outline_gives_box_and_area(folder: Path, bug: str, import_labels: Any) -> None:
    outline = '<polygon label="bug" points="70.0,30.0;100.0,30.0;100.0,60.0" group_id="8"></polygon></image>'
    (folder / "annotations.xml").write_text(POINTS.replace("</image>", outline))
    result = import_labels("cvat", folder / "annotations.xml", "--skeleton", bug, skeleton=bug)
    entry = result.document["annotations"][1]
    assert (entry["bbox"], entry["area"], entry["area_source"]) == ([70, 30, 30, 30], 450, "outline")


def test_one_label_of_several_can_be_chosen(folder: Path, bug: str, import_labels: Any, refusal: Any) -> None:
    other = ('<skeleton label="hand"><points label="thumb" outside="0" occluded="0" points="5,5"></points></skeleton>'
             "</image>")
    (folder / "annotations.xml").write_text(SKELETONS.replace("</image>", other, 1))
    assert "no keypoint 'thumb'" in refusal("cvat", folder / "annotations.xml", "--skeleton", bug)
    result = import_labels("cvat", folder / "annotations.xml", "--skeleton", bug, "--label", "bug", skeleton=bug)
    np.testing.assert_array_equal(result.triplets, EXPECTED)
    assert "1 skeletons not labelled 'bug'" in result.stderr


BILLION_LAUGHS = ('<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
                  "<annotations><image name='&b;'/></annotations>")
OTHER_FILES = ('<?xml version="1.0"?>\n<!DOCTYPE annotations [<!ENTITY secret SYSTEM "file:///etc/hostname">]>'
               "<annotations><image name='&secret;'/></annotations>")
BAD = {
    "billion laughs": (SKELETONS, BILLION_LAUGHS, "line 1: a document type"),
    "external entity": (SKELETONS, OTHER_FILES, "line 2: a document type"),
    "empty": (SKELETONS, "", "broken XML at line 1: no element found"),
    "cut short": (SKELETONS[200:], "", "broken XML at line"),
    "unknown encoding": ("utf-8", "klingon", "unknown"),
    "unknown entity": ("<tag", "&nbsp;<tag", "broken XML at line 19: undefined entity"),
    "another file": (SKELETONS, "<html><image/></html>", "no <image> in <annotations>"),
    "video": (SKELETONS, "<annotations><track/></annotations>", "export the task as 'CVAT for images 1.1'"),
    "unknown keypoint": ('"head"', '"heat"', "line 8: no keypoint 'heat'; did you mean 'head'"),
    "keypoint twice": ('"head"', '"tail"', "line 8: keypoint 'tail' occurs twice"),
    "no label": ('points label="head"', "points", "line 8: no keypoint ''"),
    "coordinate a word": ("20.50,30.00", "20.50,up", "line 8: a value is no number"),
    "coordinate NaN": ("20.50,30.00", "nan,30.00", "line 8: a value is NaN or infinite"),
    "one coordinate": ("20.50,30.00", "20.50", "line 8: 1 values, expected 2"),
    "no coordinate": (' points="20.50,30.00"', "", "line 8: 1 values, expected 2"),
    "two points": ("20.50,30.00", "20.50,30.00;1.00,1.00", "line 8: 2 points labelled 'head', expected one"),
    "box without an edge": ('xtl="10.00" ', "", "line 13: box: a value is no number"),
    "box without a width": ('xbr="50.00"', 'xbr="10.00"', "expected a positive size"),
    "point without a group": ("<tag", '<points label="head" points="1.0,1.0"/><tag', "line 19: keypoint 'head'"),
    "image without a name": ('name="a.png"', "", "line 5: None is no file name"),
    "image outside": ('name="a.png"', 'name="../a.png"', "line 5: image '../a.png' leaves the folder"),
    "image missing": ('name="a.png"', 'name="c.png"', "not there: c.png"),
    "image of another size": ('width="120"', 'width="240"', "its labels were made on 240 x 90"),
    "image without a size": ('width="120" ', "", "line 5: image size: a value is no number"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD.values(), ids=BAD.keys())
def test_a_damaged_xml_is_refused_by_its_line(folder: Path, bug: str, refusal: Any, old: str, new: str,
                                              message: str) -> None:
    assert old in SKELETONS
    (folder / "annotations.xml").write_text(SKELETONS.replace(old, new, 1))
    assert message in refusal("cvat", folder / "annotations.xml", "--skeleton", bug)


def test_a_missing_outline_point_is_refused(folder: Path, bug: str, refusal: Any) -> None:
    outline = '<polygon label="bug" points="70.0,30.0;100.0,30.0" group_id="8"></polygon></image>'
    (folder / "annotations.xml").write_text(POINTS.replace("</image>", outline))
    assert "a polygon of 2 points, expected at least 3" in refusal("cvat", folder / "annotations.xml",
                                                                  "--skeleton", bug)


def test_a_folder_instead_of_a_file_is_refused(folder: Path, bug: str, refusal: Any) -> None:
    assert "cannot be read" in refusal("cvat", folder, "--skeleton", bug)


# As CVAT 2 writes "COCO Keypoints 1.0": labels in its own order, boxes made of the keypoints, area 0, and the position
# of keypoints that are outside.
COCO: Json = {
    "licenses": [{"name": "", "id": 0, "url": ""}], "info": {"contributor": ""},
    "categories": [{"id": 1, "name": "leaf", "supercategory": ""},
                   {"id": 2, "name": "bug", "supercategory": "", "keypoints": ["tail", "head", "left_wing"],
                    "skeleton": [[1, 2]]}],
    "images": [{"id": 1, "width": 120, "height": 90, "file_name": "a.png", "license": 0, "flickr_url": ""},
               {"id": 2, "width": 120, "height": 90, "file_name": "b.png", "license": 0}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [], "area": 0.0, "bbox": [1.0, 1.0, 39.0, 59.25],
         "iscrowd": 0, "attributes": {"occluded": False}, "num_keypoints": 2,
         "keypoints": [40.0, 60.25, 1, 20.5, 30.0, 2, 1.0, 1.0, 0]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [], "area": 0.0, "bbox": [70.0, 30.0, 30.0, 30.0],
         "iscrowd": 0, "num_keypoints": 0, "keypoints": [80.0, 50.0, 1, 0.0, 0.0, 0, 90.0, 40.0, 2]},
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": [], "area": 0.0, "bbox": [33.0, 44.0, 0.0, 0.0],
         "iscrowd": 0, "num_keypoints": 1, "keypoints": [0.0, 0.0, 0, 33.0, 44.0, 2, 0.0, 0.0, 0]},
        {"id": 4, "image_id": 1, "category_id": 1, "segmentation": [], "area": 81.0, "bbox": [0.0, 0.0, 9.0, 9.0],
         "iscrowd": 0}]}


def write_coco(folder: Path, content: Json) -> Path:
    path = folder / "annotations/person_keypoints_default.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_the_coco_export_is_the_same_with_boxes_that_mean_something(folder: Path, bug: str, import_labels: Any) -> None:
    result = import_labels("cvat", write_coco(folder, COCO), "--images", folder, "--skeleton", bug, skeleton=bug)
    np.testing.assert_array_equal(result.triplets[:2], EXPECTED)
    np.testing.assert_array_equal(result.triplets[2], [[32.5, 43.5, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    sources = [entry["bbox_source"] for entry in result.document["annotations"]]
    assert sources == ["keypoints x 1.25", "rectangle", "keypoints x 1.25"]
    assert result.document["annotations"][1]["bbox"] == [70, 30, 30, 30]
    assert result.document["annotations"][2]["bbox"] == pytest.approx([32.375, 43.375, 1.25, 1.25])
    assert [entry["num_keypoints"] for entry in result.document["annotations"]] == [2, 2, 1]
    assert "left out: 1 annotations without keypoints, 1 images without an instance" in result.stderr


@pytest.mark.parametrize("place", ["annotations", "images", "images/default", "annotations/images"])
def test_images_of_the_coco_export_are_found(folder: Path, bug: str, draw_image: Callable[..., Path],
                                             import_labels: Any, place: str) -> None:
    content = copy.deepcopy(COCO)
    content["images"][0]["file_name"] = "c.png"
    draw_image(folder / place / "c.png")
    result = import_labels("cvat", write_coco(folder, content), "--skeleton", bug, skeleton=bug)
    assert result.document["images"][0]["file_name"] == f"set/{place}/c.png"


def test_an_outline_of_the_coco_export_gives_the_area(folder: Path, bug: str, import_labels: Any) -> None:
    content = copy.deepcopy(COCO)
    content["annotations"][1].update(segmentation=[[70, 30, 100, 30, 100, 60]], area=450.0)
    result = import_labels("cvat", write_coco(folder, content), "--images", folder, "--skeleton", bug, skeleton=bug)
    assert [entry["area_source"] for entry in result.document["annotations"]] == ["box x 0.53", "outline", "box x 0.53"]
    assert result.document["annotations"][1]["area"] == 450


def test_an_empty_box_beside_several_keypoints_is_no_box(folder: Path, bug: str, import_labels: Any) -> None:
    content = copy.deepcopy(COCO)
    content["annotations"][1]["bbox"] = [0, 0, 0, 0]
    result = import_labels("cvat", write_coco(folder, content), "--images", folder, "--skeleton", bug, skeleton=bug)
    assert result.document["annotations"][1]["bbox_source"] == "keypoints x 1.25"


def test_one_category_of_several_can_be_chosen(folder: Path, bug: str, import_labels: Any, refusal: Any) -> None:
    content = copy.deepcopy(COCO)
    content["categories"].append({"id": 3, "name": "hand", "keypoints": ["thumb"]})
    path = write_coco(folder, content)
    assert "category 'hand' (--label chooses one): no keypoint 'thumb'" in refusal("cvat", path, "--skeleton", bug)
    result = import_labels("cvat", path, "--images", folder, "--skeleton", bug, "--label", "bug", skeleton=bug)
    assert len(result.document["annotations"]) == 3


BAD_COCO: dict[str, tuple[Callable[[Json], object], str]] = {
    "no categories": (lambda d: d.pop("categories"), "'categories' is no list"),
    "image without an id": (lambda d: d["images"][0].pop("id"), "'images' is no list of objects with an id"),
    "annotation no object": (lambda d: d["annotations"].append(5), "'annotations' is no list of objects"),
    "unknown image": (lambda d: d["annotations"][0].update(image_id=9), "annotation 1: image 9 is not listed"),
    "unknown keypoint": (lambda d: d["categories"][1].update(keypoints=["tail", "heat", "left_wing"]),
                         "no keypoint 'heat'; did you mean 'head'"),
    "name twice": (lambda d: d["categories"][1].update(keypoints=["tail", "tail", "left_wing"]), "each once"),
    "names no list": (lambda d: d["categories"][1].update(keypoints="tail"), "expected names"),
    "too few values": (lambda d: d["annotations"][0]["keypoints"].pop(), "keypoints: 8 values, expected 9"),
    "value a word": (lambda d: d["annotations"][0]["keypoints"].__setitem__(0, "x"), "a value is no number"),
    "value NaN": (lambda d: d["annotations"][0]["keypoints"].__setitem__(0, float("nan")), "NaN or infinite"),
    "visibility 3": (lambda d: d["annotations"][0]["keypoints"].__setitem__(2, 3), "visibility 3, expected 0 or 1"),
    "no box": (lambda d: d["annotations"][0].pop("bbox"), "bbox: None, expected 4 numbers"),
    "negative box": (lambda d: d["annotations"][1].update(bbox=[1, 1, -3, 4]), "expected a positive size"),
    "area NaN": (lambda d: d["annotations"][1].update(area=float("nan"), segmentation=[[1]]), "area: a value is NaN"),
    "image outside": (lambda d: d["images"][0].update(file_name="/a.png"), "leaves the folder"),
    "image without a size": (lambda d: d["images"][0].pop("width"), "image size: a value is no number"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_COCO.values(), ids=BAD_COCO.keys())
def test_a_damaged_coco_export_is_refused_by_its_place(folder: Path, bug: str, refusal: Any,
                                                       damage: Callable[[Json], object], message: str) -> None:
    content = copy.deepcopy(COCO)
    damage(content)
    path = write_coco(folder, content)
    assert message in refusal("cvat", path, "--images", folder, "--skeleton", bug)


def test_a_list_instead_of_a_coco_export_is_refused(folder: Path, bug: str, refusal: Any) -> None:
    (folder / "list.json").write_text("[]")
    assert "no COCO keypoints file" in refusal("cvat", folder / "list.json", "--skeleton", bug)
