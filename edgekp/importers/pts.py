"""iBUG's .pts files (300-W, 300-VW, AFW, HELEN, LFPW): for each image a text file with x and y on a line.

The first pixel is 1, as menpo, iBUG's own library, reads them; MMPose's list of 300-VW keeps it, and so is 1 px off.
The header with its braces may be missing. All keypoints count as visible.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import files_below, image_named_like, images_by_stem, numbers, read_lines
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.sample import Float

HEADER = re.compile(r"\s*(version|n_points)\s*:\s*(\S+)\s*", re.IGNORECASE)
VISIBLE = 2


def read_pts(source: Path, wanted: Wanted) -> Reading:
    """All faces of a folder of .pts files; an image has the path of its .pts file, but for the suffix.

    Raises:
        DataError: A file is no .pts file, has another number of points than the skeleton, or lacks its image.
    """
    root = source if source.is_dir() else source.parent
    folder = wanted.images or root
    images = images_by_stem(folder)
    return Reading(folder, [_face(path, image_named_like(path, root, images, folder), wanted)
                            for path in files_below(source, "*.pts", ".pts files")])


def _face(path: Path, image: str, wanted: Wanted) -> Found:
    xy = _points(path)
    if len(xy) != len(wanted.skeleton):
        raise DataError(f"{path}: {len(xy)} points, skeleton '{wanted.skeleton.name}' has {len(wanted.skeleton)}; "
                        "--skeleton names another")
    return Found(str(path), image, np.concatenate([xy - wanted.first_pixel, np.full((len(xy), 1), VISIBLE)], axis=1))


def _points(path: Path) -> Float:
    """(P, 2) as many as the header says, if there is one."""
    declared, rows, braces = None, [], []
    for number, line in enumerate(read_lines(path), start=1):
        header, where = HEADER.fullmatch(line), f"{path}: line {number}"
        if header:
            if header[1].lower() == "n_points":
                declared = int(numbers([header[2]], where)[0])
        elif line.strip() in ("{", "}"):
            braces.append(line.strip())
        elif line.strip():
            rows.append(numbers(line.split(), where, 2))
    if braces not in ([], ["{", "}"]):
        raise DataError(f"{path}: braces {' '.join(braces)}, expected one pair; is the file cut short?")
    if not rows or declared not in (None, len(rows)):
        raise DataError(f"{path}: {len(rows)} points, expected {'some' if declared is None else declared}")
    return np.stack(rows)
