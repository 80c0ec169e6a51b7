"""Drawn people for the tests of tracking: a standing skeleton, put anywhere at any size."""

from __future__ import annotations

import numpy as np

from edgekp.sample import Float, Prediction

FRAME_HW = (480, 640)
# Of COCO's 17 keypoints, as parts of the height of all of them, from the nose down; the x of the middle is 0.
STANDING = np.array([[0, .02], [.02, 0], [-.02, 0], [.05, .02], [-.05, .02], [.12, .17], [-.12, .17], [.16, .34],
                     [-.16, .34], [.18, .5], [-.18, .5], [.08, .53], [-.08, .53], [.09, .77], [-.09, .77], [.1, 1],
                     [-.1, 1]])


def keypoints(x: float, y: float = 100, height: float = 200) -> Float:
    """(17, 2) keypoints of somebody whose middle is at x and whose eyes are at y."""
    return np.asarray(STANDING * height + (x, y))


def person(x: float, y: float = 100, height: float = 200, score: float = 0.9) -> Prediction:
    return Prediction(keypoints(x, y, height), np.full(len(STANDING), score))
