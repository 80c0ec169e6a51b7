"""Leeds Sports Pose: the ``joints.mat`` of the original (2,000 images) or of the extended training set (10,000).

The two say opposite things about visibility. Original, 3 x 14 x N: the third row is 1 where a joint is hidden, and
hidden ones have a position, too. Extended, 14 x 3 x N: the third column is 1 where a joint is labelled; the others
have no position. The authors do not say where the first pixel is; MATLAB counts it as 1, and so do the authors of
Convolutional Pose Machines, who subtract it from both sets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import visibilities
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.importers.mat_file import read_mat
from edgekp.sample import Float

HIDDEN, VISIBLE = 1, 2
ORIGINAL_NAME, EXTENDED_NAME = "im{:04d}.jpg", "im{:05d}.jpg"


def read_lsp(source: Path, wanted: Wanted) -> Reading:
    """The one person of each image; the images are in ``images`` beside the file.

    Raises:
        DataError: The file has no joints of either shape, or a mark that is neither 0 nor 1.
    """
    joints, k = read_mat(source, "joints"), len(wanted.skeleton)
    if not isinstance(joints, np.ndarray):
        raise DataError(f"{source}: joints is no array of numbers; fetch the file again")
    if joints.ndim not in (2, 3) or {*joints.shape[:2]} != {3, k}:
        raise DataError(f"{source}: joints of shape {' x '.join(map(str, joints.shape))}, "
                        f"expected 3 x {k} x N (original) or {k} x 3 x N (extended)")
    is_original = joints.shape[0] == 3
    people = np.moveaxis(joints.reshape(*joints.shape[:2], -1).astype(np.float64), -1, 0)  # (N, 3, K) or (N, K, 3)
    people = people.transpose(0, 2, 1) if is_original else people
    file_name = ORIGINAL_NAME if is_original else EXTENDED_NAME
    return Reading(wanted.images or source.parent / "images", [
        _person(person, f"{source}: joints(:,:,{number})", file_name.format(number), is_original, wanted)
        for number, person in enumerate(people, start=1)])


def _person(person: Float, where: str, image: str, is_original: bool, wanted: Wanted) -> Found:
    marks = visibilities(person[:, 2], where, (0, 1))
    visibility = np.where(marks > 0, HIDDEN, VISIBLE) if is_original else np.where(marks > 0, VISIBLE, 0)
    if not np.isfinite(person[visibility > 0]).all():
        raise DataError(f"{where}: a joint is NaN or infinite; fetch the file again")
    return Found(where, image, np.concatenate([person[:, :2] - wanted.first_pixel, visibility[:, None]], axis=1))
