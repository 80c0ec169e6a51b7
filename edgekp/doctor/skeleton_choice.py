"""Which skeleton an annotation file has, from what its categories say; a makeshift one where no known one fits."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edgekp.doctor.dataset import brief
from edgekp.doctor.sides import mirrored_name, side_of
from edgekp.errors import DataError
from edgekp.skeletons import SKELETONS, Skeleton

UNKNOWN = "unknown"
USUAL_SIGMA = 0.072  # the median of COCO's
MOST_KEYPOINTS = 1000  # of a skeleton that nobody named: MediaPipe's face, hands and body have 543
FREE_CELLS, CELLS_PER_KEYPOINT = 1 << 19, 8  # of the table annotations x keypoints, and for each keypoint in the file


def skeleton_of(document: Any, where: str) -> Skeleton:
    """The known skeleton with a category's keypoint names, or with its flip pairs; else one called ``unknown``.

    Raises:
        DataError: It would be so large that one long list makes a table of gigabytes; ``where`` names the file.
    """
    categories = _objects(document, "categories")
    for category in categories:
        for skeleton in SKELETONS.values():
            if category.get("keypoints") == list(skeleton.keypoints) or _has_pairs_of(skeleton, category):
                return skeleton
    described = {len(names_of(category)): category for category in categories}
    lengths = _lengths(document)
    length = lengths.most_common(1)[0][0] if lengths else max(described, default=0)
    annotations = len(_objects(document, "annotations"))
    most = min(MOST_KEYPOINTS, (FREE_CELLS + CELLS_PER_KEYPOINT * _total(lengths)) // max(1, annotations))
    if length > most:
        raise DataError(f"{where}: {length} keypoints of no known skeleton, expected {most} at most for {annotations} "
                        f"annotations that have {_total(lengths)} in all; name a skeleton with --skeleton")
    return _makeshift(described.get(length, {}), length)


def _makeshift(category: dict[str, Any], length: int) -> Skeleton:
    """Names and limbs as a category says them, and pairs of its left and right."""
    names = tuple(map(brief, names_of(category))) or tuple(f"keypoint_{index}" for index in range(length))
    pairs = [(index, names.index(mirrored_name(name))) for index, name in enumerate(names)
             if side_of(name) == "left" and mirrored_name(name) in names]
    limbs = category.get("skeleton")
    joined = [(limb[0] - 1, limb[1] - 1) for limb in (limbs if isinstance(limbs, list) else [])
              if is_pair(limb, 1, length)]
    return Skeleton(UNKNOWN, names, tuple(joined), tuple(pairs), (USUAL_SIGMA,) * length)


def _has_pairs_of(skeleton: Skeleton, category: dict[str, Any]) -> bool:
    """Whether a category of nameless keypoints has as many of them, and the same flip pairs."""
    pairs = category.get("flip_pairs")
    if not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
        return False
    return len(names_of(category)) == len(skeleton) and ({frozenset(map(str, pair)) for pair in pairs}
                                                         == {frozenset(map(str, pair)) for pair in skeleton.flip_pairs})


def names_of(category: dict[str, Any]) -> tuple[str, ...]:
    """Names of a category's keypoints; none where they are no list of texts."""
    names = category.get("keypoints")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def is_pair(pair: Any, first: int, last: int) -> bool:
    """True for two whole numbers of that range."""
    return (isinstance(pair, list) and len(pair) == 2
            and all(type(index) is int and first <= index <= last for index in pair))


def _lengths(document: Any) -> Counter[int]:
    """How many annotations have how many keypoints; without those that have none."""
    return Counter(len(found) // 3 for entry in _objects(document, "annotations")
                   if isinstance(found := entry.get("keypoints"), list) and len(found) >= 3)


def _total(lengths: Counter[int]) -> int:
    return sum(length * count for length, count in lengths.items())


def _objects(document: Any, section: str) -> list[dict[str, Any]]:
    found = document.get(section) if isinstance(document, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
