"""MPII: the official .mat and HRNet's JSON give the same people; the first pixel is 1 in both."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

Json = dict[str, Any]
XY = np.stack([20.0 + 3 * np.arange(16), 10.5 + 4 * np.arange(16)], axis=1)  # in the file's coordinates
HIDDEN, MISSING = 2, 5


def people() -> list[Json]:
    joints, marks = XY.tolist(), [1] * 16
    marks[HIDDEN] = marks[MISSING] = 0
    joints[MISSING] = [-1.0, -1.0]
    return [{"image": "a.png", "center": [60.0, 45.0], "scale": 0.4, "joints": joints, "joints_vis": marks}]


def array(*entries: Any) -> np.ndarray:
    """A row of MATLAB structs."""
    names = list(entries[0]) if entries else []
    structs = np.empty((1, len(entries)), dtype=[(name, object) for name in names])
    for index, entry in enumerate(entries):
        structs[0, index] = tuple(entry[name] for name in names)
    return structs


def point(number: int, mark: Any) -> Json:
    return {"x": XY[number, 0], "y": XY[number, 1], "id": number, "is_visible": mark}


def person(**changes: Any) -> Json:
    marks = {HIDDEN: "0", 8: np.zeros((0, 0)), 9: np.zeros((0, 0)), 10: 1}
    points = [point(number, marks.get(number, "1")) for number in reversed(range(16)) if number != MISSING]
    return {"x1": 40.0, "y1": 10.0, "x2": 70.0, "y2": 50.0, "scale": 0.4, "objpos": {"x": 60.0, "y": 45.0},
            "annopoints": {"point": array(*points)}, **changes}


def without_points() -> Json:
    return person(annopoints=np.zeros((0, 0)))


def write_mat(path: Path, *annorects: Any, name: str = "a.png") -> Path:
    images = [{"image": {"name": name}, "annorect": annorect} for annorect in annorects]
    savemat(path, {"RELEASE": {"annolist": array(*images), "img_train": np.ones(len(images)), "version": "12"}})
    return path


@pytest.fixture
def folder(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    draw_image(tmp_path / "mpii/images/a.png")
    return tmp_path / "mpii"


def expected() -> np.ndarray:
    triplets = np.concatenate([XY - 1, np.full((16, 1), 2.0)], axis=1)
    triplets[HIDDEN, 2] = 1
    triplets[MISSING] = 0
    return triplets[None]


def test_the_json_starts_at_1_and_its_box_is_hrnets_square(folder: Path, import_labels: Any) -> None:
    (folder / "valid.json").write_text(json.dumps(people()))
    result = import_labels("mpii", folder / "valid.json", skeleton="mpii16")
    np.testing.assert_array_equal(result.triplets, expected())
    entry, = result.document["annotations"]
    # centre (60 - 1, 45 - 1 + 15 * 0.4), side 200 * 0.4; a box's centre is x + (w - 1) / 2
    assert entry["bbox"] == pytest.approx([59 - 39.5, 50 - 39.5, 80, 80])
    assert entry["bbox_source"] == "scale and centre"
    assert "head_size_px" not in entry
    # joints 0 to 15 span 46 x 61 pixels
    assert entry["area"] == pytest.approx(0.53 * 1.25**2 * 46 * 61)
    assert result.document["categories"][0]["name"] == "person"


def test_the_mat_says_the_same_and_how_large_the_head_is(folder: Path, import_labels: Any) -> None:
    write_mat(folder / "mpii.mat", array(person(), without_points()), array(without_points()), np.zeros((0, 0)))
    result = import_labels("mpii", folder / "mpii.mat", skeleton="mpii16")
    np.testing.assert_array_equal(result.triplets, expected())
    entry, = result.document["annotations"]
    assert entry["head_size_px"] == pytest.approx(0.6 * math.hypot(30, 40))
    assert entry["bbox"] == pytest.approx([19.5, 10.5, 80, 80])
    assert "left out: 2 people without keypoints" in result.stderr


def test_a_mat_with_one_person_and_one_point_is_read(folder: Path, import_labels: Any) -> None:
    """MATLAB's arrays of one lose their dimensions when they are read."""
    write_mat(folder / "mpii.mat", array(person(annopoints={"point": array(point(3, 1))})))
    result = import_labels("mpii", folder / "mpii.mat", skeleton="mpii16")
    assert result.triplets[0, 3].tolist() == [*(XY[3] - 1), 2]
    assert result.document["annotations"][0]["num_keypoints"] == 1


def test_a_person_of_whom_no_joint_was_placed_is_left_out(folder: Path, import_labels: Any) -> None:
    nobody = {**people()[0], "joints": [[0, 0]] * 16, "joints_vis": [0] * 16}
    (folder / "valid.json").write_text(json.dumps([*people(), nobody]))
    result = import_labels("mpii", folder / "valid.json", skeleton="mpii16")
    assert len(result.document["annotations"]) == 1
    assert "1 instances without a labelled keypoint" in result.stderr


Damage = Callable[[Json], object]
BAD: dict[str, tuple[Damage, str]] = {
    "a joint too few": (lambda p: p["joints"].pop(), "person 0: joints [[20.0"),
    "joint of one number": (lambda p: p["joints"].__setitem__(0, [1]), "joints: 1 values, expected 2"),
    "joint NaN": (lambda p: p["joints"].__setitem__(0, [float("nan"), 1]), "joints: a value is NaN"),
    "no joints": (lambda p: p.pop("joints"), "joints None, expected 16 pairs"),
    "a mark too many": (lambda p: p["joints_vis"].append(1), "joints_vis: 17 values, expected 16"),
    "mark 2": (lambda p: p["joints_vis"].__setitem__(0, 2), "visibility 2, expected 0 or 1"),
    "no centre": (lambda p: p.pop("center"), "center: None, expected 2 numbers"),
    "no scale": (lambda p: p.pop("scale"), "scale: a value is no number"),
    "scale 0": (lambda p: p.update(scale=0), "expected a positive size"),
    "image outside": (lambda p: p.update(image="../a.png"), "leaves the folder"),
    "image missing": (lambda p: p.update(image="b.png"), "not there: b.png"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_a_damaged_json_is_refused_by_its_person(folder: Path, refusal: Any, damage: Damage, message: str) -> None:
    content = copy.deepcopy(people())
    damage(content[0])
    (folder / "valid.json").write_text(json.dumps(content))
    assert message in refusal("mpii", folder / "valid.json")


@pytest.mark.parametrize("text", ["{}", "[5]", '{"images": []}'])
def test_another_json_is_refused(folder: Path, refusal: Any, text: str) -> None:
    (folder / "valid.json").write_text(text)
    assert "no MPII list" in refusal("mpii", folder / "valid.json")


BAD_PEOPLE: dict[str, tuple[Json, str]] = {
    "point with id 16": ({"annopoints": {"point": array({**point(1, 1), "id": 16})}}, "id 16, expected 0 to 15"),
    "point with id 0.5": ({"annopoints": {"point": array({**point(1, 1), "id": 0.5})}}, "id 0.5, expected 0 to 15"),
    "point twice": ({"annopoints": {"point": array(point(1, 1), point(1, 1))}}, "id 1 occurs twice"),
    "point NaN": ({"annopoints": {"point": array({**point(1, 1), "x": math.nan})}}, "point: a value is NaN"),
    "mark 7": ({"annopoints": {"point": array(point(1, 7))}}, "visibility 7, expected 0 or 1"),
    "mark a word": ({"annopoints": {"point": array(point(1, "maybe"))}}, "is_visible: a value is no number"),
    "no position": ({"objpos": np.zeros((0, 0))}, "objpos: a value is no number"),
    "no scale": ({"scale": np.zeros((0, 0))}, "scale: "),
    "no head": ({"x2": np.zeros((0, 0))}, "head box: "),
}


@pytest.mark.parametrize(("changes", "message"), BAD_PEOPLE.values(), ids=BAD_PEOPLE.keys())
def test_a_damaged_person_of_the_mat_is_refused_by_its_place(folder: Path, refusal: Any, changes: Json,
                                                             message: str) -> None:
    write_mat(folder / "mpii.mat", array(without_points()), array(person(**changes)))
    line = refusal("mpii", folder / "mpii.mat")
    assert message in line
    assert "annolist(2).annorect(1)" in line


def test_another_mat_or_none_is_refused(folder: Path, refusal: Any) -> None:
    savemat(folder / "other.mat", {"joints": np.zeros(3)})
    assert "no variable 'RELEASE'; it has: joints" in refusal("mpii", folder / "other.mat")
    savemat(folder / "other.mat", {"RELEASE": np.zeros(3)})
    assert "RELEASE has no annolist" in refusal("mpii", folder / "other.mat")
    write_mat(folder / "other.mat", array(person()), name="../a.png")
    assert "leaves the folder" in refusal("mpii", folder / "other.mat")
    for data in (b"", b"no MATLAB file", bytes(200), b"MATLAB 5.0 MAT-file" + bytes(107) + b"\0\1IM" + b"\xff" * 99):
        (folder / "other.mat").write_bytes(data)
        assert "no MATLAB file, or a damaged one" in refusal("mpii", folder / "other.mat")
    (folder / "other.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(300))
    assert "it has version 7.3 (HDF5); save it again" in refusal("mpii", folder / "other.mat")


def test_real_people_of_mmposes_fixture_lie_where_their_list_says(real_data: Path, import_labels: Any) -> None:
    source = real_data / "fixtures/mmpose_tests_data/mpii/test_mpii.json"
    people = json.loads(source.read_bytes())
    result = import_labels("mpii", source, "--images", source.parent, skeleton="mpii16", images=source.parent)
    assert len(result.document["annotations"]) == len(people) == 5
    for entry, triplets in zip(people, result.triplets, strict=True):
        placed = np.array(entry["joints_vis"]) > 0
        np.testing.assert_allclose(triplets[placed, :2], np.array(entry["joints"])[placed] - 1, atol=1e-6)
        assert not triplets[~placed].any()
