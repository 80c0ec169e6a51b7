"""The tolerant view of a file, and the limits of what is still usual."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.doctor.dataset import DataSet, brief, first_rows, number
from edgekp.doctor.skeleton_choice import UNKNOWN, skeleton_of
from edgekp.doctor.summary import line, summary_of
from edgekp.doctor.values import is_normalised
from edgekp.errors import DataError
from edgekp.skeletons import COCO17, IBUG68, Skeleton
from tests.edgekp.doctor.healthy import Case
from tests.edgekp.doctor.planted import person, set_keypoint

PAIR = Skeleton("pair", ("left", "right"), ((0, 1),), ((0, 1),), (0.05, 0.05))


def view(*annotations: dict[str, Any], images: list[dict[str, Any]] | None = None) -> DataSet:
    document = {"images": [{"id": 1, "width": 640, "height": 480}] if images is None else images,
                "annotations": list(annotations)}
    return DataSet("set", document, Path(), PAIR)


@pytest.mark.parametrize(("value", "expected"), [(3, 3.0), (2.5, 2.5), (10**400, np.inf), ("3", np.nan), (None, np.nan),
                                                 ([3], np.nan), ({}, np.nan)])
def test_only_numbers_are_numbers(value: Any, expected: float) -> None:
    np.testing.assert_equal(number(value), expected)


@pytest.mark.parametrize(("keypoints", "expected"), [
    ([1, 2, 2, 3, 4, 1], [[1, 2, 2], [3, 4, 1]]), ([1, "2", 2, None, 4, 1], [[1, np.nan, 2], [np.nan, 4, 1]]),
    ([1, 2, 2], [[np.nan] * 3] * 2), ([[1, 2, 2], [3, 4, 1]], [[np.nan] * 3] * 2), ("none", [[np.nan] * 3] * 2)])
def test_what_is_no_keypoint_is_nan(keypoints: Any, expected: list[list[float]]) -> None:
    np.testing.assert_array_equal(view({"keypoints": keypoints}).keypoints, [expected])


def test_an_annotation_belongs_to_the_first_image_with_its_id() -> None:
    data = view({"image_id": 2}, {"image_id": "2"}, {"image_id": 2.0}, {}, images=[{"id": 1}, {"id": 2}, {"id": 2}, {}])
    np.testing.assert_array_equal(data.image_row, [1, -1, 1, -1])
    np.testing.assert_array_equal(first_rows([1, "1", 1.0, [1], [1]]), [0, 1, 0, 3, 3])


def test_crowds_and_instances_without_a_label_do_not_count() -> None:
    keypoints = [1, 2, 2, 0, 0, 0]
    data = view({"keypoints": keypoints}, {"keypoints": keypoints, "iscrowd": 1}, {"keypoints": [0] * 6}, {},
                {"keypoints": [float("nan"), 2, 2, 0, 0, 0]})
    np.testing.assert_array_equal(data.counts, [True, False, False, False, False])


def test_a_crowd_needs_neither_area_nor_box(case: Case) -> None:
    case.train["annotations"].append({**person(case), "id": 99, "iscrowd": 1, "area": 0, "bbox": [900, 900, 0, -1]})
    assert case.codes() == set()


@pytest.mark.parametrize(("value", "said"), [("a.jpg", "a.jpg"), (7, "7"), ([1] * 99, "[1, 1, 1, 1, 1, 1, ...]"),
                                             ("\x1b[2J", r"'\x1b[2J'"), ("a\nb", r"'a\nb'")])
def test_values_are_short_and_printable(value: Any, said: str) -> None:
    assert brief(value) == said
    assert len(brief("a" * 999)) <= 60


@pytest.mark.parametrize(("xy", "expected"), [
    ([(0.1, 0.2), (0.5, 0.5), (0.9, 1.0)], True), ([(0.1, 0.2), (0.5, 0.5), (0.9, 1.1)], False),
    ([(0, 0), (1, 0), (0, 0)], False),  # whole pixels, as when nothing was labelled
    ([(0.1, 0.2), (0.5, 0.5)], False)])  # two may lie in the first pixel
def test_fractions_are_told_from_pixels(xy: list[tuple[float, float]], expected: bool) -> None:
    keypoints = [value for x, y in xy for value in (x, y, 2)] + [0, 0, 0]
    skeleton = skeleton_of({"annotations": [{"keypoints": keypoints}]}, "set")
    data = DataSet("set", {"annotations": [{"keypoints": keypoints}]}, Path(), skeleton)
    np.testing.assert_array_equal(is_normalised(data), [expected])


def with_area(share: float) -> Callable[[Case], object]:
    """An area as a share of the box."""
    return lambda case: person(case).update(area=share * person(case)["bbox"][2] * person(case)["bbox"][3])


def beyond(side: float) -> Callable[[Case], object]:
    """A box that ends that many pixels right of the image, 320 pixels wide."""
    return lambda case: person(case).update(bbox=[20, 10, 300 + side, 220])


def off_box(share: float) -> Callable[[Case], object]:
    """The left knee that share of the box's longer side below it, the box high up in the image."""
    def change(case: Case) -> None:
        x, _, w, h = person(case)["bbox"]
        person(case)["bbox"] = [x, -0.5, w, h]
        set_keypoint(case, 13, x, h - 1 + share * max(w, h))
    return change


def off_image(share: float) -> Callable[[Case], object]:
    """The left knee that share of the image's longer side below it; it ends at 239."""
    return lambda case: set_keypoint(case, 13, 100, 239 + share * 320)


@pytest.mark.parametrize(("code", "plant", "is_found"), [
    ("area-larger-than-box", with_area(1.04), False), ("area-larger-than-box", with_area(1.06), True),
    ("bbox-outside-image", beyond(0.9), False), ("bbox-outside-image", beyond(1.1), True),
    ("keypoint-outside-box", off_box(0.48), False), ("keypoint-outside-box", off_box(0.52), True),
    ("keypoint-outside-image", off_image(0.095), False), ("keypoint-outside-image", off_image(0.105), True)])
def test_limits_are_where_they_are_said_to_be(case: Case, code: str, plant: Callable[[Case], object],
                                              is_found: bool) -> None:
    plant(case)
    assert (code in case.codes(decode=False)) is is_found


def test_limbs_that_leave_out_the_last_keypoint_still_count_from_1(case: Case) -> None:
    for document in (case.train, case.val):
        category = document["categories"][0]
        category["skeleton"] = [limb for limb in category["skeleton"] if 17 not in limb]
    assert case.codes(decode=False) == set()


@pytest.mark.parametrize(("category", "name"), [
    ({"keypoints": list(COCO17.keypoints)}, "coco17"),
    ({"keypoints": [f"k{i}" for i in range(68)], "flip_pairs": [list(pair) for pair in IBUG68.flip_pairs]}, "ibug68"),
    ({"keypoints": [f"k{i}" for i in range(68)], "flip_pairs": [[0, 16]]}, UNKNOWN), ({}, UNKNOWN)])
def test_a_skeleton_is_known_by_its_names_or_its_pairs(category: dict[str, Any], name: str) -> None:
    assert skeleton_of({"categories": [category]}, "set").name == name


def test_an_unknown_skeleton_is_what_the_file_says_of_it() -> None:
    category = {"keypoints": ["tail", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3], [0, 9]]}
    skeleton = skeleton_of({"categories": [category], "annotations": [{"keypoints": [0] * 9}]}, "set")
    assert skeleton.keypoints == ("tail", "left_paw", "right_paw")
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.flip_pairs == ((1, 2),)
    longer = skeleton_of({"categories": [category], "annotations": [{"keypoints": [0] * 12}]}, "set")
    assert (len(longer), longer.flip_pairs) == (4, ())


@pytest.mark.parametrize(("length", "bare", "most", "fits"), [
    (1001, 0, 1000, 1000), (5000, 11_000, 51, 47), (99, 11_000, 47, 47)])
def test_one_long_list_makes_no_table_of_all_annotations(length: int, bare: int, most: int, fits: int) -> None:
    """64 KB of JSON took gigabytes and minutes."""
    labels = [{"keypoints": [0] * 3 * length}] + [{}] * bare
    for document in ({"annotations": labels}, {"categories": [{"keypoints": ["a"] * length}], "annotations": labels}):
        with pytest.raises(DataError, match=rf"^a\.json: {length} keypoints.*expected {most} at most.*--skeleton$"):
            skeleton_of(document, "a.json")
    assert len(skeleton_of({"annotations": [{"keypoints": [0] * 3 * fits}] + [{}] * bare}, "a.json")) == fits


def test_a_large_file_that_holds_its_keypoints_is_looked_through() -> None:
    labels = [{"keypoints": [0] * 3 * 133}] * 20_000 + [{}] * 40_000
    assert len(skeleton_of({"annotations": labels}, "a.json")) == 133


def test_the_summary_counts_what_is_there() -> None:
    labels = [[1, 2, 2, 3, 4, 1], [1, 2, 2, 0, 0, 0], [0] * 6]
    data = view(*({"image_id": 1, "keypoints": keypoints, "bbox": [0, 0, 40, 20]} for keypoints in labels),
                images=[{"id": 1}, {"id": 2}])
    histograms = summary_of(data).histograms
    assert {bar.label: bar.count for bar in histograms["instances per image"] if bar.count} == {"0": 1, "2": 1}
    assert {bar.label: bar.count for bar in histograms["longer side of the box, px"] if bar.count} == {"32 to 63": 2}
    assert [(bar.label, bar.count, bar.parts) for bar in histograms["labelled keypoints"]] == [
        ("left", 2, (1.0, 0.0)), ("right", 1, (0.0, 0.5))]
    assert [max(part for bar in bars for part in bar.parts) for bars in histograms.values()] == [1, 1, 1]
    assert line(data) == "2 images, 3 annotations, 2 of them with keypoints, skeleton 'pair'"
