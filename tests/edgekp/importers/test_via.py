"""VGG Image Annotator: project, JSON and CSV say the same; whole numbers are pixels."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Json = dict[str, Any]


def point(x: float, y: float, keypoint: str, **attributes: Any) -> Json:
    return {"shape_attributes": {"name": "point", "cx": x, "cy": y},
            "region_attributes": {"keypoint": keypoint, **attributes}}


def region(shape: str, attributes: Json, **geometry: Any) -> Json:
    return {"shape_attributes": {"name": shape, **geometry}, "region_attributes": attributes}


REGIONS = [
    point(20, 30, "head", instance="1"), point(40, 60, " tail ", instance="1", occluded={"hidden": True}),
    region("rect", {"instance": "1"}, x=10, y=20, width=40, height=50),
    point(80, 50, "tail", instance="2", occluded="yes"), point(90, 40, "left_wing", instance="2", occluded="no"),
    region("polygon", {"instance": "2"}, all_points_x=[70, 100, 100], all_points_y=[30, 30, 60]),
    region("ellipse", {}, cx=5, cy=5, rx=2, ry=2),
]
EXPECTED = [[[20, 30, 2], [0, 0, 0], [0, 0, 0], [40, 60, 1]], [[0, 0, 0], [90, 40, 2], [0, 0, 0], [80, 50, 1]]]


def annotations(size: int = -1) -> Json:
    regions = copy.deepcopy(REGIONS)
    return {f"a.png{size}": {"filename": "a.png", "size": size, "regions": regions, "file_attributes": {}},
            "b.png-1": {"filename": "b.png", "size": -1, "regions": [], "file_attributes": {}}}


def as_csv(entries: Json, mark: str = "") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"{mark}filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
               "region_attributes\n")
    for entry in entries.values():
        regions = entry["regions"] or [{"shape_attributes": {}, "region_attributes": {}}]
        for number, each in enumerate(regions):
            writer.writerow([entry["filename"], entry["size"], "{}", len(entry["regions"]), number,
                             json.dumps(each["shape_attributes"]), json.dumps(each["region_attributes"])])
    return text.getvalue()


def numbered(entries: Json) -> Json:
    """As VIA 1 wrote regions."""
    return {key: {**entry, "regions": {str(i): each for i, each in enumerate(entry["regions"])}}
            for key, entry in entries.items()}


WRITTEN: dict[str, tuple[str, Callable[[Json], str]]] = {
    "project": ("via.json", lambda entries: json.dumps({
        "_via_settings": {"project": {"name": "bugs"}}, "_via_img_metadata": entries, "_via_attributes": {}})),
    "JSON": ("via.json", json.dumps),
    "JSON of VIA 1": ("via.json", lambda entries: json.dumps(numbered(entries))),
    "CSV": ("via.csv", as_csv),
    "CSV of VIA 1": ("via.csv", lambda entries: as_csv(entries, "#")),
    "CSV with a byte order mark": ("via.CSV", lambda entries: "\ufeff" + as_csv(entries)),
}


@pytest.fixture
def folder(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    draw_image(tmp_path / "set/a.png")
    return tmp_path / "set"


@pytest.mark.parametrize(("name", "written"), WRITTEN.values(), ids=WRITTEN.keys())
def test_every_file_of_via_says_the_same(folder: Path, bug: str, import_labels: Any, name: str,
                                         written: Callable[[Json], str]) -> None:
    (folder / name).write_text(written(annotations()), encoding="utf-8")
    result = import_labels("via", folder / name, "--skeleton", bug, skeleton=bug)
    np.testing.assert_array_equal(result.triplets, EXPECTED)
    first, second = result.document["annotations"]
    assert (first["bbox"], first["bbox_source"]) == ([10, 20, 40, 50], "rectangle")
    assert (second["bbox"], second["area"], second["area_source"]) == ([70, 30, 30, 30], 450, "outline")
    assert "left out: 1 ellipse regions, 1 images without an instance" in result.stderr


def test_attributes_of_other_names(folder: Path, bug: str, import_labels: Any) -> None:
    regions = [region("point", {"part": "head", "id": i}, cx=5 * i, cy=9) for i in (1, 2)]
    (folder / "via.json").write_text(json.dumps({"a": {"filename": "a.png", "size": -1, "regions": regions}}))
    result = import_labels("via", folder / "via.json", "--skeleton", bug, "--keypoint-attribute", "part",
                           "--instance-attribute", "id", skeleton=bug)
    assert result.triplets[:, 0, 0].tolist() == [5, 10]


def test_without_instances_an_image_holds_one(folder: Path, bug: str, import_labels: Any) -> None:
    entry = {"filename": "a.png", "regions": [point(5, 6, "head"), point(7, 8, "tail", instance="")]}
    (folder / "via.json").write_text(json.dumps({"a": entry}))
    result = import_labels("via", folder / "via.json", "--skeleton", bug, skeleton=bug)
    np.testing.assert_array_equal(result.triplets[:, [0, 3]], [[[5, 6, 2], [7, 8, 2]]])


def test_a_file_that_changed_since_it_was_labelled_is_said(folder: Path, bug: str, import_labels: Any) -> None:
    size = (folder / "a.png").stat().st_size
    for written, is_said in ((size, False), (size + 1, True), (-1, False)):
        (folder / "via.json").write_text(json.dumps(annotations(written)))
        result = import_labels("via", folder / "via.json", "--skeleton", bug, skeleton=bug)
        assert ("1 image files changed since they were labelled, such as a.png" in result.stderr) == is_said


Damage = Callable[[list[Json]], object]
BAD: dict[str, tuple[Damage, str]] = {
    "unknown keypoint": (lambda r: r[0]["region_attributes"].update(keypoint="heat"), "did you mean 'head'"),
    "keypoint twice": (lambda r: r[0]["region_attributes"].update(keypoint="tail"), "'tail' occurs twice"),
    "no keypoint": (lambda r: r[0].update(region_attributes={"name": "head"}),
                    "a point without the attribute 'keypoint' (it has: name); --keypoint-attribute"),
    "no attributes": (lambda r: r[0].update(region_attributes={}), "(it has: none)"),
    "no instance": (lambda r: r[0]["region_attributes"].pop("instance"), "keypoint 'head' belongs to no group"),
    "instance a list": (lambda r: r[0]["region_attributes"].update(instance=[]), "instance: [], expected a number"),
    "no coordinate": (lambda r: r[0]["shape_attributes"].pop("cy"), "cx and cy: a value is no number"),
    "coordinate NaN": (lambda r: r[0]["shape_attributes"].update(cx=float("nan")), "NaN or infinite"),
    "rectangle without width": (lambda r: r[2]["shape_attributes"].pop("width"), "rect: a value is no number"),
    "flat rectangle": (lambda r: r[2]["shape_attributes"].update(width=0), "expected a positive size"),
    "polygon with an x too many": (lambda r: r[5]["shape_attributes"]["all_points_x"].append(1), "4 x and 3 y"),
    "polygon of no list": (lambda r: r[5]["shape_attributes"].update(all_points_y=3), "all_points_y: 3, expected"),
    "keypoint far outside": (lambda r: r[0]["shape_attributes"].update(cx=-60), "lies far outside"),
}


@pytest.mark.parametrize("name", ["via.json", "via.csv"])
@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_a_damaged_region_is_refused_by_its_place(folder: Path, bug: str, refusal: Any, damage: Damage, message: str,
                                                  name: str) -> None:
    entries = annotations()
    damage(entries["a.png-1"]["regions"])
    (folder / name).write_text(WRITTEN["CSV" if name.endswith("csv") else "JSON"][1](entries))
    line = refusal("via", folder / name, "--skeleton", bug)
    assert message in line
    assert f"{folder / name}: " in line


@pytest.mark.parametrize(("content", "message"), [
    ([], "no VIA 2 project or annotations"),
    ({"a": 5}, "no VIA 2 project or annotations"),
    ({"a": {"size": 5}}, "no VIA 2 project or annotations"),
    ({"a": {"filename": "a.png", "regions": 5}}, "a: regions 5, expected a list"),
    ({"a": {"filename": "a.png", "regions": [5]}}, "a: regions [5], expected a list"),
    ({"a": {"filename": "a.png", "regions": [{}]}}, "attributes None, expected an object"),
    ({"a": {"filename": "../a.png", "regions": []}}, "image '../a.png' leaves the folder"),
    ({"a": {"filename": 5, "regions": []}}, "5 is no file name"),
    ({"a": {"filename": "a.png", "size": "big", "regions": []}}, "size: a value is no number"),
    ({"a": {"filename": "c.png", "size": -1, "regions": [point(1, 1, "head")]}}, "not there: c.png"),
    ({"a": {"filename": "a.png", "size": -1, "regions": []}}, "not one instance"),
])
def test_a_damaged_json_is_refused(folder: Path, bug: str, refusal: Any, content: Any, message: str) -> None:
    (folder / "via.json").write_text(json.dumps(content))
    assert message in refusal("via", folder / "via.json", "--skeleton", bug)


HEADER = as_csv({})


@pytest.mark.parametrize(("text", "message"), [
    ("", "line 1: no CSV of VIA"),
    ("filename,x,y\n", "line 1: no CSV of VIA; expected filename,file_size"),
    (HEADER + "a.png,1,{},1,0,{}\n", "line 2: 6 columns, expected 7"),
    (HEADER + 'a.png,1,"{}"x,1,0,{},{}\n', "line 2: broken CSV"),
    (HEADER + '\na.png,1,{},1,0,"{""name"":","{}"\n', "line 3: attributes '{\"name\":': broken JSON"),
    (HEADER + 'a.png,1,{},1,0,5,"{}"\n', "line 2: attributes '5', expected an object"),
    (HEADER + 'a.png,,{},1,0,"{}","{}"\n', "line 2: size: a value is no number"),
    (HEADER + '..\\a.png,1,{},1,0,"{}","{}"\n', "line 2: image '..\\a.png' leaves"),
])
def test_a_damaged_csv_is_refused_by_its_line(folder: Path, bug: str, refusal: Any, text: str, message: str) -> None:
    (folder / "via.csv").write_text(text)
    assert message in refusal("via", folder / "via.csv", "--skeleton", bug)


def test_a_csv_that_is_no_text_is_refused(folder: Path, bug: str, refusal: Any) -> None:
    (folder / "via.csv").write_bytes(b"filename\xff\xfe")
    assert "not a text file (invalid start byte at byte 8)" in refusal("via", folder / "via.csv", "--skeleton", bug)
