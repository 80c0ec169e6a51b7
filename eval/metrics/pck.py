"""PCK: the share of labelled keypoints that lie close to the truth, measured against the instance's box."""

from __future__ import annotations

import numpy as np

from edgekp.sample import Bool, Float
from eval.bootstrap import Weighted
from eval.results import Scored

FRACTIONS = (0.05, 0.1, 0.2)
GATED_FRACTION = 0.2


def pck_metrics(scored: Scored) -> dict[str, float]:
    """PCK over all labelled keypoints of all instances, for each of ``FRACTIONS``."""
    labelled = scored.truth.labelled
    return {f"pck@{fraction:g}": float(_correct(scored, fraction).sum() / labelled.sum()) for fraction in FRACTIONS}


def weighted_pck(scored: Scored) -> Weighted:
    """PCK@0.2 as a function of how often each image counts."""
    truth = scored.truth
    correct = truth.per_image(_correct(scored, GATED_FRACTION).sum(1))
    labelled = truth.per_image(truth.labelled.sum(1))

    def pck(weights: Float) -> Float:
        return (weights @ correct) / (weights @ labelled)

    return pck


def _correct(scored: Scored, fraction: float) -> Bool:
    """(N, K) labelled keypoints whose error is at most ``fraction`` of the longer side of the box."""
    reach_px = fraction * scored.truth.bbox_xywh[:, 2:].max(1)
    return np.asarray((scored.error_px <= reach_px[:, None]) & scored.truth.labelled)
