"""What a detector finds in a picture, and which of its overlapping boxes stay. Knows no network and no letterbox."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekp.sample import Float, Int

MOST_CANDIDATES = 1000  # the best before suppression; a crowd of 50 has some 20 boxes each


@dataclass(frozen=True)
class Detections:
    """The people or faces of one picture, the best first.

    Attributes:
        boxes_xywh: (N, 4) float64 image pixels, within the image; N may be 0.
        scores: (N,) float64 confidence.
    """

    boxes_xywh: Float
    scores: Float


@dataclass(frozen=True)
class Candidates:
    """What a network proposes, as it says it: anything may be in here, infinite boxes too.

    Attributes:
        corners_xyxy: (N, 4) left, top, right and bottom edge in the network's input, whose first pixel is from 0 to 1.
        scores: (N,) confidence.
    """

    corners_xyxy: Float
    scores: Float

    def best_first(self, most: int = MOST_CANDIDATES) -> Candidates:
        """Those that are boxes at all, in float64; of equal scores the lower index comes first."""
        corners, scores = self.corners_xyxy.astype(np.float64), self.scores.astype(np.float64)
        boxes = np.flatnonzero(np.isfinite(corners).all(1) & np.isfinite(scores)
                               & (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1]))
        kept = boxes[np.argsort(-scores[boxes], kind="stable")[:most]]
        return Candidates(corners[kept], scores[kept])


def suppress(corners_xyxy: Float, most_overlap: float) -> Int:
    """Positions to keep of boxes that come the best first: none overlaps a better one by more than ``most_overlap``.

    Overlap is intersection over union. A box as large as the one kept and at the same place always goes.
    """
    left, top, right, bottom = np.ascontiguousarray(corners_xyxy.T)
    area = (right - left) * (bottom - top)
    remaining, kept = np.arange(len(area)), []
    while len(remaining):
        best, others = remaining[0], remaining[1:]
        kept.append(best)
        across = np.minimum(right[others], right[best]) - np.maximum(left[others], left[best])
        down = np.minimum(bottom[others], bottom[best]) - np.maximum(top[others], top[best])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        remaining = others[shared <= most_overlap * (area[others] + area[best] - shared)]
    return np.array(kept, dtype=np.int64)
