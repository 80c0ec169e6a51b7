"""NME of faces: mean keypoint error over the distance between the eyes, and what is derived from it.

An instance without both normalising keypoints has no NME and is left out.
"""

from __future__ import annotations

import numpy as np

from edgekp.errors import DataError
from edgekp.sample import Float
from edgekp.skeletons import Skeleton
from eval.bootstrap import Weighted
from eval.ground_truth import GroundTruth
from eval.results import Scored

FAILURE_LIMITS = (0.08, 0.10)  # the limits customary on 300-W and on WFLW
AUC_LIMIT = 0.08


def nme_metrics(scored: Scored) -> dict[str, float]:
    """NME, failure rates and the exact area under the cumulative error curve up to ``AUC_LIMIT``.

    Raises:
        DataError: The skeleton has no normaliser, or an instance has no prediction, so its error has no size.
    """
    errors = _instance_nme(scored, outer_corner_px(scored.truth))
    errors = errors[np.isfinite(errors)]
    metrics = {"nme": float(errors.mean())}
    metrics |= {f"failure_rate@{limit:.2f}": float((errors > limit).mean()) for limit in FAILURE_LIMITS}
    metrics[f"auc@{AUC_LIMIT:.2f}"] = float(np.clip(1 - errors / AUC_LIMIT, 0, 1).mean())
    pupils = _instance_nme(scored, eye_centre_px(scored.truth))
    if np.isfinite(pupils).any():
        metrics["nme_interpupil"] = float(np.nanmean(pupils))
    return metrics


def weighted_nme(scored: Scored) -> Weighted:
    """NME as a function of how often each image counts."""
    errors = _instance_nme(scored, outer_corner_px(scored.truth))
    usable = np.isfinite(errors)
    total = scored.truth.per_image(np.where(usable, errors, 0.0))
    count = scored.truth.per_image(usable)

    def nme(weights: Float) -> Float:
        return (weights @ total) / (weights @ count)

    return nme


def outer_corner_px(truth: GroundTruth) -> Float:
    """(N,) distance of the skeleton's normaliser, the outer eye corners; NaN where one is not labelled."""
    if truth.skeleton.normaliser is None:
        raise DataError(f"skeleton '{truth.skeleton.name}' has no normaliser, so NME is undefined; use oks_ap or pck")
    first, second = truth.skeleton.normaliser
    return _distance_px(truth, [first], [second])


def eye_centre_px(truth: GroundTruth) -> Float:
    """(N,) distance between the centres of the two eyes' outlines; NaN where a part is not labelled."""
    return _distance_px(truth, _named(truth.skeleton, "eye_right_"), _named(truth.skeleton, "eye_left_"))


def _distance_px(truth: GroundTruth, first: list[int], second: list[int]) -> Float:
    if not first or not second:
        return np.full(len(truth.true_xy), np.nan)
    between = truth.true_xy[:, first].mean(1) - truth.true_xy[:, second].mean(1)
    distance = np.linalg.norm(between, axis=-1)
    return np.where(truth.labelled[:, first + second].all(1) & (distance > 0), distance, np.nan)


def _named(skeleton: Skeleton, prefix: str) -> list[int]:
    return [index for index, name in enumerate(skeleton.keypoints) if name.startswith(prefix)]


def _instance_nme(scored: Scored, normaliser_px: Float) -> Float:
    """(N,) mean error of the labelled keypoints, as a fraction of the normaliser; NaN where that is missing."""
    missing = int((~scored.found).sum())
    if missing:
        raise DataError(f"{missing} of {len(scored.found)} instances have no prediction, so NME is undefined")
    labelled = scored.truth.labelled
    mean_px = np.where(labelled, scored.error_px, 0.0).sum(1) / labelled.sum(1)
    return np.asarray(mean_px / normaliser_px)
