"""Boxes that stand still while somebody hardly moves. Knows no keypoint and no network.

A box that follows its own keypoints feeds every tremor of them back into the network: of two runtimes that differ by
1e-6 one frame, the keypoints lay 2 to 4 px apart after two seconds (median of two videos, HRNet-lite, 640 x 480). With
boxes that stay where they are as long as they fit, and otherwise lie on a coarse grid, the same two runtimes agree to
0.001 px, two int8 ones to 0.3 px (p99 2 px instead of 50 to 70), and keypoints tremble half as much.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.people.person_box import overlap
from edgekp.sample import Float

STILL_FITS = 0.7  # overlap with the box that is wanted
STEP = 1 / 8  # of the grid: octaves of the size, and shares of it for the place


class SteadyBoxes:
    """Remembers which boxes were shown last."""

    def __init__(self) -> None:
        self._shown_xywh: Float = np.empty((0, 4))

    def steady(self, wanted_xywh: Float) -> Float:
        """(N, 4) boxes for the (N, 4) wanted ones: the last one that still fits, or the nearest of the grid."""
        shown = on_grid(wanted_xywh)
        if len(wanted_xywh) and len(self._shown_xywh):
            fit = overlap(wanted_xywh, self._shown_xywh)
            best, stays = fit.argmax(1), fit.max(1) > STILL_FITS
            shown[stays] = self._shown_xywh[best[stays]]
        self._shown_xywh = shown
        return shown


def on_grid(boxes_xywh: Float) -> Float:
    """Boxes of the nearest size and place of the grid, so that nearly equal ones are equal."""
    size = np.exp2(np.round(np.log2(np.maximum(boxes_xywh[:, 2:], 1)) / STEP) * STEP)
    center = boxes_xywh[:, :2] + (boxes_xywh[:, 2:] - 1) / 2
    center = np.round(center / (size * STEP)) * (size * STEP)
    return np.concatenate([center - (size - 1) / 2, size], axis=1)
