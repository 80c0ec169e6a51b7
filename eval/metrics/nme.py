"""NME of faces: mean keypoint error over the distance of the eyes or the size of the box, and what derives from it.

An instance without the normaliser has no NME and is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekp.errors import DataError
from edgekp.sample import Float
from eval.ground_truth import GroundTruth
from eval.metrics.keypoint_values import distance_px, positions
from eval.results import Scored


def outer_corner_px(truth: GroundTruth) -> Float:
    """(N,) distance of the skeleton's normaliser, the outer eye corners; NaN where one is not labelled."""
    if truth.skeleton.normaliser is None:
        raise DataError(f"skeleton '{truth.skeleton.name}' has no normaliser, so NME is undefined; use oks_ap or pck")
    first, second = truth.skeleton.normaliser
    return distance_px(truth, [first], [second])


def pupil_px(truth: GroundTruth) -> Float:
    """(N,) distance of the pupils, or of the centres of the eyes' outlines where the skeleton has no pupils."""
    sides = [positions(truth.skeleton, f"pupil_{side}") or positions(truth.skeleton, f"eye_{side}_*")
             for side in ("right", "left")]
    return distance_px(truth, *sides)


def _box_px(truth: GroundTruth) -> Float:
    return np.asarray(np.sqrt(truth.bbox_xywh[:, 2] * truth.bbox_xywh[:, 3]))


@dataclass(frozen=True)
class Normaliser:
    """What is divided by.

    Attributes:
        name: what NME is called with it; the other numbers have its ending, too.
        of: (N,) pixels; NaN where an instance has none.
        limits: for failure rate and AUC, as is customary: 0.08 on 300-W, 0.10 on WFLW, 0.07 of the box on AFLW.
    """

    name: str
    of: Callable[[GroundTruth], Float]
    limits: tuple[float, ...]


NORMALISERS = {"eye_corners": Normaliser("nme", outer_corner_px, (0.08, 0.10)),
               "pupils": Normaliser("nme_interpupil", pupil_px, (0.08, 0.10)),
               "box": Normaliser("nme_box", _box_px, (0.07,))}


def nme_metrics(scored: Scored) -> dict[str, float]:
    """NME, failure rates and the exact area under the cumulative error curve, for every normaliser that faces have.

    Raises:
        DataError: The skeleton has no normaliser, or an instance has no prediction, so its error has no size.
    """
    metrics: dict[str, float] = {}
    for normaliser, kind in NORMALISERS.items():
        errors = instance_nme(scored, normaliser)
        errors = errors[np.isfinite(errors)]
        if len(errors):
            ending = kind.name.removeprefix("nme")
            metrics[kind.name] = float(errors.mean())
            metrics |= {f"failure_rate{ending}@{limit:.2f}": float((errors > limit).mean()) for limit in kind.limits}
            metrics |= {f"auc{ending}@{limit:.2f}": float(np.clip(1 - errors / limit, 0, 1).mean())
                        for limit in kind.limits}
    return metrics


def instance_nme(scored: Scored, normaliser: str) -> Float:
    """(N,) mean error of the labelled keypoints, as a fraction of the normaliser; NaN where that is missing."""
    labelled = scored.truth.labelled
    mean_px = np.where(labelled, _found_error_px(scored), 0.0).sum(1) / labelled.sum(1)
    return np.asarray(mean_px / NORMALISERS[normaliser].of(scored.truth))


def keypoint_nme(scored: Scored, normaliser: str) -> Float:
    """(N, K) error of each labelled keypoint, as a fraction of the normaliser; NaN where it is not measured."""
    normaliser_px = NORMALISERS[normaliser].of(scored.truth)[:, None]
    return np.where(scored.truth.labelled, _found_error_px(scored) / normaliser_px, np.nan)


def _found_error_px(scored: Scored) -> Float:
    missing = int((~scored.found).sum())
    if missing:
        raise DataError(f"{missing} of {len(scored.found)} instances have no prediction, so NME is undefined; "
                        "use another metric, or predict them all")
    return scored.error_px
