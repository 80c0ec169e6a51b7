"""What comparisons are measured by: one number of one arm's answers, and which way is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np

from benchmarks.claims.answers import Answers
from eval.metrics import metric_named


@dataclass(frozen=True)
class Measure:
    """One number.

    Attributes:
        of: the number itself, in ``unit``.
        error: smaller is better; a gain is then the share of the other side's error that is gone. Of a score it is
            the difference, unless a comparison asks for a share.
    """

    name: str
    unit: str
    of: Callable[[Answers], float]
    error: bool = False

    def gain(self, favoured: float, other: float, as_share: bool) -> float:
        """How much better the favoured side is; above 0 is better, NaN is a share of nothing."""
        difference = other - favoured if self.error else favoured - other
        if self.error or as_share:
            return difference / other if other else nan
        return difference

    def unit_of_gain(self, as_share: bool) -> str:
        return f"share of the other {self.name}" if self.error or as_share else f"points of {self.name} in 0..1"


def _of_metric(metric: str, number: str) -> Callable[[Answers], float]:
    return lambda answers: metric_named(metric).measure(answers.scored)[number]


def _median_px(answers: Answers) -> float:
    """Over all labelled keypoints; a median, as one keypoint taken for another says nothing of sub-pixel accuracy."""
    labelled = answers.scored.truth.labelled
    return float(np.median((answers.scored.error_px / answers.input_px[:, None])[labelled]))


NME = Measure("NME", "fraction of the distance of the outer eye corners", _of_metric("nme", "nme"), error=True)
MEDIAN_PX = Measure("median error", "input pixels", _median_px, error=True)
AP = Measure("AP", "0..1", _of_metric("oks_ap", "AP"))
MEAN_OKS = Measure("mean OKS", "0..1", _of_metric("oks_ap", "mean_oks"))
