"""Values that no coordinate can have: no numbers, the wrong number of them, fractions instead of pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekp.doctor.dataset import DataSet, brief
from edgekp.doctor.finding import Fault, Finding, at_annotations
from edgekp.sample import Bool

FEWEST_NORMALISED = 3  # labelled keypoints in the first pixel before they are called fractions

NOT_A_NUMBER = Fault(
    "not-a-number", "error", "a keypoint or box holds NaN, infinity or what is no number",
    why="one NaN in a batch makes the loss NaN, and every weight with it; read_coco refuses it",
    mend="label the instance again, or write 0, 0, 0 for a keypoint that nobody labelled")
KEYPOINT_COUNT = Fault(
    "keypoint-count", "error", "an annotation's keypoints are not x, y, v of each keypoint in one list",
    why="read_coco refuses it; a loader that reshapes shifts every keypoint behind the gap",
    mend="write one flat list of three numbers a keypoint, 0, 0, 0 where nobody labelled one; or name the skeleton "
         "that the labels have with --skeleton")
NORMALISED = Fault(
    "coordinates-normalised", "error", "all keypoints of an instance lie between 0 and 1",
    why="fractions of the image are read as pixels: every keypoint lands in the image's first corner, and the loss "
        "falls nicely while nothing is learnt",
    mend="multiply by the image's width and height, minus 0.5 for the centre of the pixel, where the file is made")


def check_values(data: DataSet) -> Iterator[Finding]:
    yield from at_annotations(NOT_A_NUMBER, data, _not_a_number(data), lambda row: _first_bad_number(data, row))
    yield from at_annotations(KEYPOINT_COUNT, data, data.is_malformed, lambda row: _length(data, row))
    yield from at_annotations(NORMALISED, data, is_normalised(data),
                              lambda row: f"largest coordinate {data.keypoints_xy[row][data.labelled[row]].max():.4g}")


def is_normalised(data: DataSet) -> Bool:
    """(N,) True where all labelled keypoints lie in the first pixel, and not all on whole numbers."""
    xy = np.where(data.labelled[..., None], data.keypoints_xy, 0.0)
    fractions = ((xy >= 0) & (xy <= 1)).all((-1, -2)) & (xy % 1 != 0).any((-1, -2))
    return np.asarray(data.counts & fractions & (data.labelled.sum(-1) >= FEWEST_NORMALISED))


def has_four_values(data: DataSet) -> Bool:
    """(N,) True where the box is a list of four values, numbers or not."""
    return np.array([isinstance(entry.get("bbox"), list) and len(entry["bbox"]) == 4 for entry in data.annotations],
                    dtype=bool)


def box(data: DataSet, row: int) -> str:
    return f"bbox {brief(data.annotations[row].get('bbox', 'missing'))}"


def _not_a_number(data: DataSet) -> Bool:
    in_keypoints = data.has_keypoints & ~data.is_malformed & ~np.isfinite(data.keypoints).all((-1, -2))
    return in_keypoints | (has_four_values(data) & ~np.isfinite(data.bbox_xywh).all(-1))


def _first_bad_number(data: DataSet, row: int) -> str:
    bad = ~np.isfinite(data.keypoints[row]).all(-1)
    if data.has_keypoints[row] and not data.is_malformed[row] and bad.any():
        index = int(bad.argmax())
        return f"{data.skeleton.keypoints[index]} {brief(data.annotations[row]['keypoints'][3 * index:3 * index + 3])}"
    return box(data, row)


def _length(data: DataSet, row: int) -> str:
    found = data.annotations[row]["keypoints"]
    expected = f"expected {3 * len(data.skeleton)} numbers for '{data.skeleton.name}'"
    return f"{len(found)} values, {expected}" if isinstance(found, list) else f"{brief(found)}, {expected}"
