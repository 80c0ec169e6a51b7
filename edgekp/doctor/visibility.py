"""What v says: 0 not labelled, 1 labelled but hidden, 2 visible; and the count of labelled keypoints."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekp.doctor.dataset import DataSet, brief, number
from edgekp.doctor.finding import Fault, Finding, at_annotations, at_keypoints, at_set
from edgekp.sample import Bool, Int

FLAG_SHARE = 0.5  # of the keypoints with v = 0 have a position: then 0 means hidden, not unlabelled

VALUE = Fault(
    "visibility-value", "error", "a v is not 0, 1 or 2",
    why="read_coco refuses it; other loaders take any number above 0 as a weight of the loss",
    mend="0 not labelled, 1 hidden, 2 visible; --fix makes a negative v 0, and a v above 2 at (0, 0) too", fixable=True)
FLAGS = Fault(
    "visibility-flags", "error", "v looks like a flag: 0 hidden, 1 visible",
    why="0 means not labelled: all hidden keypoints are thrown away, and all others count as hidden",
    mend="write v + 1 for every keypoint that has a position")
UNLABELLED = Fault(
    "unlabelled-with-position", "note", "a keypoint with v = 0 has a position",
    why="COCO writes 0, 0, 0; tools that tell by the position take it for labelled",
    mend="v = 1 if somebody placed it; else --fix sets the position to 0, 0", fixable=True)
AT_ORIGIN = Fault(
    "labelled-at-origin", "warning", "a labelled keypoint lies at exactly (0, 0)",
    why="it is nearly always one that nobody labelled: the network learns to point to the corner",
    mend="write v = 0")
ALL_HIDDEN = Fault(
    "never-visible", "warning", "no keypoint has v = 2",
    why="probably 1 was written for visible; numbers for visible and hidden keypoints cannot be told apart",
    mend="write 2 for what can be seen")
NEVER_HIDDEN = Fault(
    "never-hidden", "note", "no keypoint has v = 1",
    why="hidden keypoints were labelled as visible or left out; the set cannot say how a model does on them",
    mend="nothing, if the labels do not tell them apart")
COUNT = Fault(
    "num-keypoints", "warning", "num_keypoints is not the number of keypoints with v > 0",
    why="pycocotools ignores an instance with num_keypoints 0 and stops where it is missing",
    mend="--fix counts again", fixable=True)


def check_visibility(data: DataSet) -> Iterator[Finding]:
    wrong = is_wrong(data)
    yield from at_keypoints(VALUE, data, wrong, lambda row: _keypoint(data, row, wrong))
    flags = are_flags(data)
    yield from at_set(FLAGS, data, flags, _counts(data))
    placed = has_position_unlabelled(data) & (not flags)
    yield from at_keypoints(UNLABELLED, data, placed, lambda row: _keypoint(data, row, placed))
    origin = data.labelled & (data.keypoints_xy == 0).all(-1)
    yield from at_keypoints(AT_ORIGIN, data, origin, lambda row: _keypoint(data, row, origin))
    values = data.visibility[data.labelled]
    yield from at_set(ALL_HIDDEN, data, len(values) and not flags and not (values == 2).any(), _counts(data))
    yield from at_set(NEVER_HIDDEN, data, len(values) and not (values == 1).any(), _counts(data))
    yield from at_annotations(COUNT, data, counts_wrongly(data), lambda row: _count(data, row))


def is_wrong(data: DataSet) -> Bool:
    """(N, K) True where v is a number, but not 0, 1 or 2."""
    return np.isfinite(data.visibility) & ~np.isin(data.visibility, (0, 1, 2))


def are_flags(data: DataSet) -> bool:
    """Whether v is 0 or 1 throughout and most of the zeros have a position."""
    zeros = data.visibility == 0
    return (not (data.visibility > 1).any() and bool((data.visibility == 1).any())
            and has_position_unlabelled(data).sum() > FLAG_SHARE * zeros.sum())


def has_position_unlabelled(data: DataSet) -> Bool:
    """(N, K) True where v is 0 and x or y is not."""
    return np.asarray((data.visibility == 0) & (data.keypoints_xy != 0).any(-1))


def labelled_count(data: DataSet) -> Int:
    """(N,) keypoints with v > 0."""
    return np.asarray((data.visibility > 0).sum(-1))


def counts_wrongly(data: DataSet) -> Bool:
    """(N,) True where num_keypoints is another number than that of the labelled keypoints, or missing."""
    stated = np.array([number(entry.get("num_keypoints")) for entry in data.annotations], dtype=np.float64)
    return np.asarray(data.has_keypoints & ~data.is_malformed & (stated != labelled_count(data)))


def _keypoint(data: DataSet, row: int, marked: Bool) -> str:
    """The first marked keypoint of a row: name, position and v."""
    index = int(marked[row].argmax())
    x, y, v = data.keypoints[row, index]
    return f"{data.skeleton.keypoints[index]} at ({x:.6g}, {y:.6g}) has v = {v:g}"


def _counts(data: DataSet) -> str:
    shares = ", ".join(f"{int((data.visibility == v).sum())} with v = {v}" for v in (0, 1, 2))
    return f"keypoints: {shares}"


def _count(data: DataSet, row: int) -> str:
    stated = brief(data.annotations[row].get("num_keypoints", "missing"))
    return f"num_keypoints {stated}, {int(labelled_count(data)[row])} are labelled"
