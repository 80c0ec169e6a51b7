"""``--fix`` mends what has one right answer: the fault is gone, nothing else is broken, the rest stays as it is."""

from __future__ import annotations

import copy
import json

import pytest

from edgekp.doctor.dataset import DataSet
from edgekp.doctor.fix import FIXES, mended
from edgekp.doctor.reading import read_sets
from tests.edgekp.doctor.healthy import Case, Document
from tests.edgekp.doctor.planted import FAULTS, flags, for_all, person, set_keypoint

NEEDS_A_HUMAN = {"v = 3"}  # of the faults that have a fix: a v above 2 that has a position may mean anything


def train(case: Case) -> DataSet:
    path = case.folder / "train.json"
    path.write_text(json.dumps(case.train))
    return read_sets([path], skeleton=case.skeleton)[0]


def fixed(case: Case) -> Document:
    """The training split after the fixes, also put back into the case."""
    case.train = mended(train(case))[0]
    return case.train


@pytest.mark.parametrize("name", [name for name, (code, _) in FAULTS.items() if code in FIXES and
                                  name not in NEEDS_A_HUMAN])
def test_a_mended_fault_is_gone_and_no_other_has_come(case: Case, name: str) -> None:
    code, plant = FAULTS[name]
    case.val = {"images": [], "annotations": [], "categories": case.val["categories"]}  # it is not mended here
    plant(case)
    document, changes = mended(train(case))
    assert code in changes
    case.train = document
    case.val["categories"] = document.get("categories", [])
    assert case.codes() == set()


@pytest.mark.parametrize("name", [name for name, (code, _) in FAULTS.items() if code not in FIXES])
def test_what_has_no_one_right_answer_is_left_alone(case: Case, name: str) -> None:
    FAULTS[name][1](case)
    before = json.dumps(case.train)
    document, changes = mended(train(case))
    assert (json.dumps(document), changes) == (before, {})


def test_the_document_that_was_read_stays_as_it_is(case: Case) -> None:
    FAULTS["area 0"][1](case)
    before = copy.deepcopy(case.train)
    data = train(case)
    mended(data)
    assert data.document == before


def test_mending_twice_changes_nothing_more(case: Case) -> None:
    for name in ("a text as id", "images from 0", "unknown image", "v = -1", "box over the border", "limbs from 0"):
        FAULTS[name][1](case)
    fixed(case)
    assert mended(train(case)) == (case.train, {})


def test_a_new_image_id_goes_to_its_annotations(case: Case) -> None:
    case.train["images"][3]["id"] = "four"
    person(case, 3)["image_id"] = person(case, 5)["image_id"] = "four"
    document = fixed(case)
    identity = document["images"][3]["id"]
    assert type(identity) is int
    assert [image["id"] for image in document["images"]].count(identity) == 1
    assert [entry["id"] for entry in document["annotations"] if entry["image_id"] == identity] == [4, 6]


def test_images_that_share_an_id_are_not_told_apart_by_guessing(case: Case) -> None:
    for row in (3, 4):
        case.train["images"][row]["id"] = "twice"
    fixed(case)
    assert case.train["images"][3]["id"] == case.train["images"][4]["id"]
    assert "image-id-duplicate" in case.codes()


def test_new_ids_are_free_ones(case: Case) -> None:
    case.train["annotations"] = [dict(person(case), id=identity, area=900 + row, segmentation=[row])
                                 for row, identity in enumerate([5, 0, 5, 5, None, 70.0, "a"])]
    identities = [entry["id"] for entry in fixed(case)["annotations"]]
    assert identities[0] == 5
    assert identities[5] == 70
    assert len(set(identities)) == len(identities)
    assert all(type(identity) is int and identity > 0 for identity in identities)


def test_flags_keep_their_positions(case: Case) -> None:
    """Where v = 0 means hidden, the positions of what is hidden are labels."""
    for_all(case, flags)
    before = [entry["keypoints"] for entry in case.train["annotations"]]
    assert [entry["keypoints"] for entry in fixed(case)["annotations"]] == before


@pytest.mark.parametrize(("values", "expected"), [((50, 60, -1), [0, 0, 0]), ((0, 0, 3), [0, 0, 0]),
                                                  ((50, 60, 3), [50, 60, 3]), ((50, 60, 0.5), [50, 60, 0.5])])
def test_visibility_is_mended_where_it_can_mean_one_thing(case: Case, values: tuple[float, ...],
                                                          expected: list[float]) -> None:
    set_keypoint(case, 13, *values)
    assert fixed(case)["annotations"][0]["keypoints"][39:42] == expected


def test_an_area_says_where_it_is_from(case: Case) -> None:
    person(case).update(bbox=[10, 20, 100, 200], area=0)
    entry = fixed(case)["annotations"][0]
    assert entry["area"] == pytest.approx(0.53 * 100 * 200)
    assert "0.53" in entry["area_source"]


def test_a_box_is_cut_at_the_border(case: Case) -> None:
    person(case).update(bbox=[-20.5, 200, 100.25, 90], area=4000)
    assert fixed(case)["annotations"][0]["bbox"] == [0, 200, 79.75, 40]


def test_a_size_is_not_taken_from_a_file_on_which_the_labels_do_not_fit(case: Case) -> None:
    """The JSON says 700 x 240 and somebody stands at 600: the labels may be those of another picture."""
    case.train["images"][0]["width"] = 700
    set_keypoint(case, 13, 600.0)
    assert fixed(case)["images"][0]["width"] == 700
    set_keypoint(case, 13, 300.0)
    assert fixed(case)["images"][0]["width"] == 320
