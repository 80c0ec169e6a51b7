"""PCK: the share of labelled keypoints that lie close to the truth, measured against a box, a head or a torso.

A keypoint of an instance whose normaliser is not known is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekp.sample import Float
from eval.ground_truth import GroundTruth
from eval.metrics.keypoint_values import distance_px, positions
from eval.results import Scored


@dataclass(frozen=True)
class Normaliser:
    """What is divided by.

    Attributes:
        prefix: what PCK is called with it.
        of: (N,) pixels; NaN where an instance has none.
        thresholds: those that are customary.
    """

    prefix: str
    of: Callable[[GroundTruth], Float]
    thresholds: tuple[float, ...]


def _longer_side_px(truth: GroundTruth) -> Float:
    return np.asarray(truth.bbox_xywh[:, 2:].max(1))


def _head_px(truth: GroundTruth) -> Float:
    """MPII's head size where the file has it, else from the neck to the top of the head."""
    if np.isfinite(truth.head_size_px).any():
        return truth.head_size_px
    return distance_px(truth, positions(truth.skeleton, "neck", "upper_neck"), positions(truth.skeleton, "head_top"))


def _torso_px(truth: GroundTruth) -> Float:
    """From the left shoulder to the right hip, as for LSP (Yang and Ramanan, 2013)."""
    return distance_px(truth, positions(truth.skeleton, "left_shoulder"), positions(truth.skeleton, "right_hip"))


NORMALISERS = {"box": Normaliser("pck", _longer_side_px, (0.05, 0.1, 0.2)),
               "head": Normaliser("pckh", _head_px, (0.1, 0.5)),
               "torso": Normaliser("pck_torso", _torso_px, (0.1, 0.2))}


def pck_name(normaliser: str, threshold: float) -> str:
    return f"{NORMALISERS[normaliser].prefix}@{threshold:g}"


def pck_metrics(scored: Scored) -> dict[str, float]:
    """PCK over all labelled keypoints of all instances, for every normaliser that they have."""
    wanted = [(normaliser, threshold) for normaliser, kind in NORMALISERS.items() for threshold in kind.thresholds]
    values = {pck_name(*which): keypoint_correct(scored, *which) for which in wanted}
    return {name: float(np.nanmean(correct)) for name, correct in values.items() if np.isfinite(correct).any()}


def keypoint_correct(scored: Scored, normaliser: str, threshold: float) -> Float:
    """(N, K) 1 where the error is at most ``threshold`` of the normaliser, else 0; NaN where it is not measured."""
    reach_px = threshold * NORMALISERS[normaliser].of(scored.truth)[:, None]
    return np.where(scored.truth.labelled & np.isfinite(reach_px), scored.error_px <= reach_px, np.nan)
