"""WFLW: a text list with a face a line: 98 x and y, a box as two corners, six attributes, and the image's name.

Its authors do not say where the first pixel is. Its numbers are read as they are, with the first pixel's centre at 0,
as MMPose and HRNet read them. All keypoints count as visible.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import first_existing, inside, numbers, read_lines
from edgekp.importers.found import Found, Reading, Wanted

ATTRIBUTES = 6  # pose, expression, illumination, make-up, occlusion, blur
VISIBLE = 2


def read_wflw(source: Path, wanted: Wanted) -> Reading:
    """All faces of a list such as ``list_98pt_rect_attr_train.txt``.

    Raises:
        DataError: A line has another number of words, or a word is no number.
    """
    found = []
    for number, line in enumerate(read_lines(source), start=1):
        if line.strip():
            found.append(_face(line.split(), f"{source}: line {number}", wanted))
    folders = [folder / "WFLW_images" for folder in source.absolute().parents[:3]]
    name = found[0].image if found else ""
    return Reading(wanted.images or first_existing(name, [*folders, source.parent]), found)


def _face(words: list[str], where: str, wanted: Wanted) -> Found:
    k = len(wanted.skeleton)
    expected = 2 * k + 4 + ATTRIBUTES + 1
    if len(words) != expected:
        raise DataError(f"{where}: {len(words)} words, expected {expected}: {k} x and y, a box as two corners, "
                        f"{ATTRIBUTES} attributes and a file name without spaces")
    values = numbers(words[:-1], where)
    xy, corners = values[:2 * k].reshape(-1, 2), values[2 * k:2 * k + 4].reshape(2, 2)
    keypoints = np.concatenate([xy - wanted.first_pixel, np.full((k, 1), VISIBLE)], axis=1)
    box = np.concatenate([corners[0], corners[1] - corners[0]])
    return Found(where, inside(words[-1], where), keypoints, box, "WFLW")
