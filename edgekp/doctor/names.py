"""What a category says of its keypoints: names, their order, and which are left and right of each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgekp.doctor.dataset import DataSet, Entry, brief, key
from edgekp.doctor.finding import Fault, Finding, at_places, at_set
from edgekp.doctor.sides import mirrored_name, side_of
from edgekp.doctor.skeleton_choice import UNKNOWN, is_pair, names_of
from edgekp.skeletons import SKELETONS

UNKNOWN_SKELETON = Fault(
    "skeleton-unknown", "note", "no known skeleton has the keypoint names of the file",
    why="without one, the number, the order and the sides of the keypoints are only held against the file itself",
    mend=f"name one with --skeleton: {', '.join(SKELETONS)}, or a TOML file of your own")
ORDER = Fault(
    "keypoint-names", "error", "a category's keypoints are not those of the skeleton",
    why="keypoints are told by their place in the list: another order trains ankles as noses, and no loss shows it",
    mend="choose the skeleton that the labels have with --skeleton, or bring the keypoints into its order")
PARTNER = Fault(
    "keypoint-without-partner", "warning", "a keypoint of one side has none on the other",
    why="a mirrored picture needs the names of both sides exchanged; this keypoint keeps the wrong one",
    mend="correct the name (left_eye, right_eye); a point on the body's middle has no side in its name")
FLIP_PAIRS = Fault(
    "flip-pairs", "error", "flip_pairs do not exchange left and right",
    why="mirroring while training and the flip test mix up keypoints: both sides are learnt as one",
    mend="0-based pairs, each keypoint in one pair at most, a left one with its right one")
DIFFER = Fault(
    "categories-differ", "error", "the files' categories have other ids, keypoints or limbs",
    why="what is learnt from one file is measured against other names in the other",
    mend="write both files with the same categories")


def check_names(data: DataSet) -> Iterator[Finding]:
    is_unknown = data.skeleton.name == UNKNOWN and len(data.skeleton) > 0
    yield from at_set(UNKNOWN_SKELETON, data, is_unknown, f"{len(data.skeleton)} keypoints")
    yield from at_places(ORDER, _foreign_names(data))
    yield from at_places(PARTNER, ((_place(data, category), f"{brief(name)}: no {brief(mirrored_name(name))}")
                                   for category in data.categories for name in _lonely(names_of(category))))
    yield from at_places(FLIP_PAIRS, ((_place(data, category), value)
                                      for category in data.categories for value in _bad_pairs(data, category)))


def check_categories_between(sets: Sequence[DataSet]) -> Iterator[Finding]:
    """Every file's categories against those of the first."""
    first = sets[0]
    theirs = {key(category.get("id")): _meaning(category) for category in first.categories}
    for data in sets[1:]:
        mine = {key(category.get("id")): _meaning(category) for category in data.categories}
        unlike = [identity for identity in {**theirs, **mine} if theirs.get(identity) != mine.get(identity)]
        yield from at_places(DIFFER, ((data.name, f"category {brief(identity)} is not that of {first.name}")
                                      for identity in unlike))


def _meaning(category: Entry) -> tuple[str, ...]:
    return tuple(repr(category.get(name)) for name in ("name", "keypoints", "skeleton"))


def _foreign_names(data: DataSet) -> Iterator[tuple[str, str]]:
    """Categories of another number of keypoints than the skeleton's, or with some of its names elsewhere."""
    for category in data.categories:
        names, expected = category.get("keypoints"), data.skeleton.keypoints
        if not names:
            continue
        found, place = names_of(category), _place(data, category)
        if len(found) != len(expected):
            yield place, f"{len(found)} names, '{data.skeleton.name}' has {len(expected)}"
        elif found != expected and set(found) & set(expected):  # wholly other names may be another language
            index = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
            yield place, f"keypoint {index} is {brief(found[index])}, {expected[index]} in '{data.skeleton.name}'"


def _lonely(names: tuple[str, ...]) -> list[str]:
    known = set(names)
    return [name for name in names if side_of(name) and mirrored_name(name) not in known]


def _bad_pairs(data: DataSet, category: Entry) -> Iterator[str]:
    """What is wrong with a category's own ``flip_pairs``, pair by pair."""
    pairs = category.get("flip_pairs")
    if pairs is None:
        return
    names = names_of(category) if len(names_of(category)) == len(data.skeleton) else data.skeleton.keypoints
    used: set[int] = set()
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not is_pair(pair, 0, len(names) - 1):
            yield f"{brief(pair)}: expected two of the indices 0 to {len(names) - 1}"
        elif pair[0] == pair[1] or used & set(pair):
            yield f"{brief(pair)}: a keypoint is exchanged twice, or with itself"
        elif not _are_partners(names[pair[0]], names[pair[1]]):
            yield f"{brief(pair)}: {brief(names[pair[0]])} with {brief(names[pair[1]])}"
        if is_pair(pair, 0, len(names) - 1):
            used |= set(pair)


def _are_partners(one: str, other: str) -> bool:
    """Whether two names are the same part on opposite sides; numbers may run the other way round on the other side."""
    if not side_of(one) and not side_of(other):
        return True
    part, partner = (re.sub(r"\d+", "", name) for name in (mirrored_name(one), other))
    return {side_of(one), side_of(other)} == {"left", "right"} and part == partner


def _place(data: DataSet, category: Entry) -> str:
    return f"{data.name}: category {brief(category.get('name', category.get('id', 'without a name')))}"
