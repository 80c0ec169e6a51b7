"""Non-maximum suppression of people by OKS: of two predictions of the same person the better one stays.

Knows no detector; what overlaps is decided by keypoints alone, so that people behind each other are kept apart.
"""

from __future__ import annotations

from math import inf

import numpy as np

from edgekp.sample import Bool, Float, Int
from edgekp.similarity import oks


def oks_nms(keypoints_xy: Float, found: Bool, scores: Float, area_px2: Float, sigmas: Float,
            threshold: float = 0.9) -> Int:
    """Positions of the predictions to keep, the best first: none is more similar to a better one than the threshold.

    Args:
        keypoints_xy: (N, K, 2) pixels.
        found: (N, K) False where a prediction lacks a keypoint. Compared are keypoints that both have; people without
            any in common are different people.
        scores: (N,) confidence; ties go to the lower index, NaN comes last.
        area_px2: (N,) pixels squared, such as the area of the box; two people are compared with the mean of both.
        sigmas: (K,) spread of human annotators per keypoint, as a fraction of sqrt(area).
        threshold: OKS, 0 to 1.

    Follows ``oks_nms`` of mmpose, after simple baselines (Xiao et al., ECCV 2018).
    """
    alike = pairwise_oks(keypoints_xy, found, area_px2, sigmas)
    is_left, kept = np.ones(len(scores), dtype=np.bool_), []
    for best in np.argsort(-scores, kind="stable"):
        if is_left[best]:
            kept.append(best)
            is_left &= alike[best] <= threshold
    return np.array(kept, dtype=np.int64)


def soft_oks_nms(keypoints_xy: Float, found: Bool, scores: Float, area_px2: Float, sigmas: Float,
                 threshold: float = 0.9, most: int = 20) -> tuple[Int, Float]:
    """Positions of at most ``most`` predictions, the best first, and their lowered scores.

    Nothing is removed for being similar: each prediction taken multiplies the scores of those left by
    ``exp(-oks**2 / threshold)`` (soft NMS, Bodla et al., ICCV 2017). The other arguments are those of ``oks_nms``.
    """
    alike = pairwise_oks(keypoints_xy, found, area_px2, sigmas)
    left = np.where(np.isnan(scores), -inf, scores)
    kept = np.zeros(min(most, len(scores)), dtype=np.int64)
    lowered = np.zeros(len(kept))
    for place in range(len(kept)):
        best = kept[place] = left.argmax()
        lowered[place] = left[best]
        left = left * np.exp(-(alike[best] ** 2) / threshold)
        left[best] = -inf
    return kept, lowered


def pairwise_oks(keypoints_xy: Float, found: Bool, area_px2: Float, sigmas: Float) -> Float:
    """(N, N) OKS of each prediction with each, over the keypoints that both have; 0 where these are none."""
    usable = found & np.isfinite(keypoints_xy).all(-1)
    xy = np.where(usable[..., None], keypoints_xy, 0.0)
    both = usable[:, None] & usable
    with np.errstate(invalid="ignore"):  # 0 of 0 keypoints
        alike = oks(xy[:, None], xy, both, (area_px2[:, None] + area_px2) / 2, sigmas)
    return np.where(both.any(-1), alike, 0.0)
