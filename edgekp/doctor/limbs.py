"""A category's limbs (``skeleton``, counted from 1 as COCO does) against its keypoints and the skeleton's limbs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekp.doctor.dataset import DataSet, Entry, brief, first_rows
from edgekp.doctor.finding import Fault, Finding, at_places, rows_of
from edgekp.doctor.skeleton_choice import is_pair
from edgekp.sample import Bool

ZERO_BASED = Fault(
    "limbs-zero-based", "error", "limbs count keypoints from 0",
    why="COCO's 'skeleton' counts from 1: every limb is drawn, and every part affinity field learnt, one keypoint off",
    mend="--fix adds 1 to every index", fixable=True)
UNKNOWN = Fault(
    "limb-unknown", "error", "a limb names a keypoint that does not exist",
    why="tools that draw limbs or learn part affinity fields stop, or join something else",
    mend="two of the keypoints' numbers, counted from 1")
TO_ITSELF = Fault(
    "limb-to-itself", "error", "a limb joins a keypoint to itself",
    why="its part affinity field has no direction: a division by 0",
    mend="drop the limb, or correct one of its ends")
REVERSED = Fault(
    "limb-reversed", "warning", "a limb runs against the skeleton's direction",
    why="a part affinity field points from the first keypoint to the second: trained one way and read the other, every "
        "limb scores negative and no person is put together",
    mend="--fix turns the limb round", fixable=True)
TWICE = Fault(
    "limb-twice", "warning", "a limb is listed twice",
    why="it gets two part affinity fields, which share what one should learn",
    mend="--fix drops the second", fixable=True)


def check_limbs(data: DataSet) -> Iterator[Finding]:
    for category in data.categories:
        yield from _of_category(data, category, f"{data.name}: category {brief(category.get('name'))}")


def _of_category(data: DataSet, category: Entry, place: str) -> Iterator[Finding]:
    limbs, last = limbs_of(category), len(data.skeleton)
    if counts_from_zero(limbs, last):
        yield from at_places(ZERO_BASED, [(place, f"{brief(limbs)}")])
        return
    yield from at_places(UNKNOWN, ((place, f"limb {brief(limb)}, keypoints are 1 to {last}")
                                   for limb in limbs if not is_pair(limb, 1, last)))
    known = known_limbs(category, last)
    yield from at_places(TO_ITSELF, ((place, f"limb {limb}") for limb in known if limb[0] == limb[1]))
    yield from at_places(REVERSED, ((place, f"limb {limb}: {_ends(data, limb)}, '{data.skeleton.name}' has "
                                            f"{_ends(data, limb[::-1])}") for limb in known if is_reversed(data, limb)))
    yield from at_places(TWICE, ((place, f"limb {known[row]}") for row in rows_of(are_listed_before(known))))


def limbs_of(category: Entry) -> list[Any]:
    found = category.get("skeleton")
    return found if isinstance(found, list) else []


def known_limbs(category: Entry, last: int) -> list[list[int]]:
    """Those that join two of the keypoints 1 to ``last``."""
    return [limb for limb in limbs_of(category) if is_pair(limb, 1, last)]


def counts_from_zero(limbs: list[Any], last: int) -> bool:
    """Whether a keypoint 0 occurs and all are below ``last``, the number of keypoints."""
    return all(is_pair(limb, 0, last - 1) for limb in limbs) and any(0 in limb for limb in limbs)


def is_reversed(data: DataSet, limb: list[int]) -> bool:
    """Whether the skeleton has a limb, counted from 1, the other way round only."""
    start, end = limb[0] - 1, limb[1] - 1
    return (end, start) in data.skeleton.limbs and (start, end) not in data.skeleton.limbs


def are_listed_before(limbs: list[list[int]]) -> Bool:
    """True where an earlier limb joins the same two keypoints, in either direction."""
    return first_rows([sorted(limb) for limb in limbs]) < np.arange(len(limbs))


def _ends(data: DataSet, limb: list[int]) -> str:
    return " to ".join(data.skeleton.keypoints[index - 1] for index in limb)
