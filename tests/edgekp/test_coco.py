"""COCO annotations at the door: what is good comes through unchanged, what is not is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.coco import read_coco, skeleton_of
from edgekp.errors import DataError
from edgekp.skeletons import SKELETONS

LSP = SKELETONS["lsp14"]
Document = dict[str, Any]


def document() -> Document:
    """Two people on two images; the second has one hidden and one unlabelled keypoint."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(20, 80, (2, 14, 2)).round(1)
    visibility = np.full((2, 14), 2)
    visibility[1, :2] = 1, 0
    triplets = np.concatenate([xy, visibility[..., None]], -1).reshape(2, -1).tolist()
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 120} for i in (7, 8)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(LSP.keypoints)}],
        "annotations": [{"id": i, "image_id": 7 + i, "category_id": 1, "keypoints": triplets[i],
                         "bbox": [10, 11, 80, 90], "area": 3600.5} for i in (0, 1)],
    }


def written(tmp_path: Path, content: Document | str) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_good_annotations_come_through_unchanged(tmp_path: Path) -> None:
    original = document()
    labels = read_coco(written(tmp_path, original), LSP)
    assert labels.skipped == 0
    assert [image.path for image in labels.images] == [str(tmp_path / "7.jpg"), str(tmp_path / "8.jpg")]
    for instance, entry in zip(labels.instances, original["annotations"], strict=True):
        triplets = np.array(entry["keypoints"]).reshape(14, 3)
        np.testing.assert_array_equal(instance.keypoints_xy, triplets[:, :2])
        np.testing.assert_array_equal(instance.visibility, triplets[:, 2])
        np.testing.assert_array_equal(instance.bbox_xywh, entry["bbox"])
        assert (instance.id, instance.image.id, instance.area_px2) == (entry["id"], entry["image_id"], 3600.5)
        assert (instance.image.width, instance.image.height) == (100, 120)


def test_trap_visibility_1_is_labelled_and_0_is_not(tmp_path: Path) -> None:
    hidden = read_coco(written(tmp_path, document()), LSP).instances[1]
    np.testing.assert_array_equal(hidden.labelled[:3], [True, False, True])


def test_trap_a_keypoint_at_0_is_not_missing(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0]["keypoints"][:3] = [0, 0, 2]
    assert read_coco(written(tmp_path, content), LSP).instances[0].labelled[0]


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    labels = read_coco(written(tmp_path, document()), LSP, images=tmp_path / "pictures")
    assert labels.images[0].path == str(tmp_path / "pictures" / "7.jpg")


def test_crowds_and_instances_without_a_keypoint_are_left_out_and_counted(tmp_path: Path) -> None:
    content = document()
    crowd = content["annotations"][0] | {"id": 5, "iscrowd": 1, "keypoints": [0] * 42}
    no_keypoints = {key: value for key, value in crowd.items() if key != "keypoints"} | {"id": 7, "iscrowd": 0}
    content["annotations"] += [crowd, crowd | {"id": 6, "iscrowd": 0, "area": 0}, no_keypoints]
    labels = read_coco(written(tmp_path, content), LSP)
    assert (len(labels.instances), labels.skipped) == (2, 3)


def test_a_keypoint_a_little_outside_the_image_is_kept(tmp_path: Path) -> None:
    """Annotators and croppers leave such points in real sets, up to 9 % of the image's side."""
    content = document()
    content["annotations"][0]["keypoints"][:2] = [-5.0, 125.0]
    instance = read_coco(written(tmp_path, content), LSP).instances[0]
    np.testing.assert_array_equal(instance.keypoints_xy[0], [-5, 125])


Damage = Callable[[Document], Any]
BAD: dict[str, tuple[Damage, str]] = {
    "no images": (lambda d: d.pop("images"), "expected a COCO keypoints file"),
    "no annotations": (lambda d: d.pop("annotations"), "expected a COCO keypoints file"),
    "images no list": (lambda d: d.update(images={"7": "a.jpg"}), "'images'.*list"),
    "annotations no list": (lambda d: d.update(annotations="many"), "'annotations'.*list"),
    "annotation no object": (lambda d: d["annotations"].append(5), "'annotations' holds 5, expected an object"),
    "no annotation": (lambda d: d.update(annotations=[]), "not one instance"),
    "zero visible keypoints": (
        lambda d: [a.update(keypoints=[50, 50, 0] * 14) for a in d["annotations"]], "not one instance"),
    "image without a size": (lambda d: d["images"][0].pop("width"), "lacks a usable id"),
    "image of size 0": (lambda d: d["images"][0].update(width=0), "image 7 is 0 x 120 pixels"),
    "image with a word for a size": (lambda d: d["images"][0].update(height="tall"), "lacks a usable id"),
    "image of infinite size": (lambda d: d["images"][0].update(width=float("inf")), "lacks a usable id"),
    "names no list": (lambda d: d["categories"][0].update(keypoints=5), "category 'person' has 0 keypoints"),
    "image no object": (
        lambda d: d["images"].append("9.jpg"), "'images' holds '9.jpg', expected an object"),
    "image id twice": (lambda d: d["images"].append(d["images"][0]), "image id 7 occurs twice"),
    "annotation id twice": (lambda d: d["annotations"][1].update(id=0), "annotation id 0 occurs twice"),
    "annotation without an id": (lambda d: d["annotations"][0].pop("id"), "'id' is missing"),
    "unknown image": (lambda d: d["annotations"][0].update(image_id=99), "annotation 0: 99 is missing or names an"),
    "image id no number": (lambda d: d["annotations"][0].update(image_id=[7]), "annotation 0"),
    "no bbox": (lambda d: d["annotations"][0].pop("bbox"), "annotation 0: 'bbox'"),
    "bbox of three": (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "annotation 0: bbox .*positive size"),
    "bbox without width": (lambda d: d["annotations"][0].update(bbox=[1, 2, 0, 3]), "annotation 0: bbox .*positive"),
    "bbox NaN": (lambda d: d["annotations"][0].update(bbox=[1, float("nan"), 3, 3]), "annotation 0: bbox"),
    "area 0": (lambda d: d["annotations"][0].update(area=0), "annotation 0: area 0.0, expected a number above 0"),
    "no area": (lambda d: d["annotations"][0].pop("area"), "annotation 0: area"),
    "area NaN": (lambda d: d["annotations"][0].update(area=float("nan")), "annotation 0: area nan, expected"),
    "area a word": (lambda d: d["annotations"][0].update(area="big"), "annotation 0: a value is no number"),
    "keypoint NaN": (lambda d: d["annotations"][1]["keypoints"].__setitem__(0, float("nan")), "annotation 1: .*NaN"),
    "visibility NaN": (lambda d: d["annotations"][1]["keypoints"].__setitem__(2, float("nan")), "annotation 1: .*NaN"),
    "keypoint infinite": (lambda d: d["annotations"][1]["keypoints"].__setitem__(1, float("inf")), "infinite"),
    "keypoint a word": (lambda d: d["annotations"][1]["keypoints"].__setitem__(0, "left"), "1: .*no number"),
    "visibility a word": (lambda d: d["annotations"][1]["keypoints"].__setitem__(2, "yes"), "1: .*no number"),
    "keypoint null": (lambda d: d["annotations"][1]["keypoints"].__setitem__(5, None), "annotation 1: .*NaN"),
    "keypoints a word": (lambda d: d["annotations"][1].update(keypoints="left"), "annotation 1: .*no number"),
    "visibility -1": (lambda d: d["annotations"][0].update(keypoints=[50, 50, -1] * 14), "visibility .*expected 0"),
    "keypoints in triples": (
        lambda d: d["annotations"][1].update(keypoints=[[1, 2, 2]] * 14), r"1: keypoints of shape \[14, 3\]"),
    "one keypoint too few": (
        lambda d: d["annotations"][0].update(keypoints=[50, 50, 2] * 13), r"keypoints of shape \[39\]"),
    "one value too many": (lambda d: d["annotations"][0]["keypoints"].append(1), r"keypoints of shape \[43\]"),
    "visibility 3": (lambda d: d["annotations"][0]["keypoints"].__setitem__(2, 3), "visibility .*expected 0, 1 or 2"),
    "visibility 1.5": (lambda d: d["annotations"][0]["keypoints"].__setitem__(2, 1.5), "visibility .*expected 0, 1"),
    "another skeleton": (lambda d: d["categories"][0].update(keypoints=["nose"]), "category 'person' has 1 keypoints"),
    "category no object": (lambda d: d.update(categories=["person"]), "'categories' holds 'person'"),
    "keypoint outside": (
        lambda d: d["annotations"][0]["keypoints"].__setitem__(0, 400), r"annotation 0: .*outside.*100 x 120"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_bad_annotations_are_refused_in_one_line(tmp_path: Path, damage: Damage, message: str) -> None:
    content = document()
    damage(content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(written(tmp_path, content), LSP)
    assert str(caught.value).startswith(str(tmp_path / "labels.json"))
    assert "\n" not in str(caught.value)


def test_an_unlabelled_keypoint_may_lie_anywhere(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1]["keypoints"][3:6] = [-9999, 9999, 0]
    assert len(read_coco(written(tmp_path, content), LSP).instances) == 2


@pytest.mark.parametrize(("text", "message"), [
    ("", "it is empty"),
    ('{"images": [],\n "annot', "broken JSON at line 2"),
    ("[1, 2]", "expected a COCO keypoints file"),
    ("null", "expected a COCO keypoints file"),
    ("[" * 100_000, "not a JSON text"),
])
def test_what_is_not_a_coco_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_coco(written(tmp_path, text), LSP)


def test_what_is_not_even_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"labels\.json: "):
        read_coco(tmp_path / "labels.json", LSP)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_coco(tmp_path / "labels.json", LSP)
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path, LSP)


@pytest.mark.parametrize(("name", "skeleton", "instances"), [
    ("pose_coco17/val.json", "coco17", 201), ("pose_lspet14/val_14kp.json", "lsp14", 350),
    ("face_ibug68/val.json", "ibug68", 176),
])
def test_real_annotations_are_read_whole(real_data: Path, name: str, skeleton: str, instances: int) -> None:
    labels = read_coco(real_data / name, SKELETONS[skeleton])
    assert len(labels.instances) == instances
    assert all(Path(instance.image.path).is_file() for instance in labels.instances)


def test_a_number_too_long_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": [{"id": ' + "9" * 5000 + "}]}")
    with pytest.raises(DataError, match="not a JSON text"):
        read_coco(path, SKELETONS["coco17"])


@pytest.mark.parametrize("names", [17, "nose", {"nose": 1}, [["nose"]]])
def test_names_of_keypoints_that_are_no_names_are_refused(tmp_path: Path, names: Any) -> None:
    with pytest.raises(DataError, match="no known skeleton has the keypoint names"):
        skeleton_of(written(tmp_path, document() | {"categories": [{"id": 1, "keypoints": names}]}))
