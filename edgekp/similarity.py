"""Object keypoint similarity (OKS), COCO's measure of how close one set of keypoints is to another."""

from __future__ import annotations

import numpy as np

from edgekp.sample import Bool, Float


def oks(predicted_xy: Float, true_xy: Float, labelled: Bool, area_px2: Float, sigmas: Float) -> Float:
    """Similarity in 0..1 (1 is a perfect match), for arrays with any leading axes that broadcast.

    Args:
        predicted_xy, true_xy: (..., K, 2) image pixels; an infinite prediction has similarity 0.
        labelled: (..., K) True where the annotation has v > 0; other keypoints are ignored. At least one is True.
        area_px2: (...) pixels squared.
        sigmas: (K,) spread of human annotators per keypoint, as a fraction of sqrt(area).

    Follows pycocotools ``COCOeval.computeOks``: the constant is ``(2 * sigma) ** 2``.
    """
    squared_px = ((predicted_xy - true_xy) ** 2).sum(-1)
    spread_px2 = (2 * sigmas) ** 2 * (area_px2[..., None] + np.spacing(1))
    similarity = np.exp(-squared_px / (2 * spread_px2))
    return np.asarray((similarity * labelled).sum(-1) / labelled.sum(-1))
