"""Metrics by name, how a gate speaks of each, and which of them make sense for a skeleton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekp.errors import DataError, unknown_name
from edgekp.sample import Float
from edgekp.skeletons import Skeleton
from eval.bootstrap import Weighted
from eval.metrics.nme import nme_metrics, weighted_nme
from eval.metrics.oks_ap import oks_ap_metrics, weighted_ap
from eval.metrics.pck import pck_metrics, weighted_pck
from eval.results import Scored


def _points_lost(baseline: Float, candidate: Float) -> Float:
    return baseline - candidate


def _share_risen(baseline: Float, candidate: Float) -> Float:
    return candidate / baseline - 1


@dataclass(frozen=True)
class Metric:
    """One family of numbers.

    Attributes:
        judged: what a verdict calls the number that ``weighted`` gives.
        measure: all numbers, as fractions.
        weighted: the main number, which a gate judges, as a function of how often each image counts.
        loss: how much worse the second of two values is; what a budget limits.
        loss_word: what a verdict calls it.
        relative: the loss is a share of the baseline, not points.
    """

    judged: str
    measure: Callable[[Scored], dict[str, float]]
    weighted: Callable[[Scored], Weighted]
    loss: Callable[[Float, Float], Float]
    loss_word: str = "drop"
    relative: bool = False


METRICS = {
    "oks_ap": Metric("AP (all points)", oks_ap_metrics, weighted_ap, _points_lost),
    "pck": Metric("pck@0.2", pck_metrics, weighted_pck, _points_lost),
    "nme": Metric("nme", nme_metrics, weighted_nme, _share_risen, loss_word="rise", relative=True),
}


def metric_named(name: str) -> Metric:
    if name not in METRICS:
        raise DataError(unknown_name("metric", name, list(METRICS)))
    return METRICS[name]


def metrics_for(skeleton: Skeleton) -> tuple[str, ...]:
    """NME and PCK where NME is customary (faces), else OKS AP and PCK; the first is the one to gate on."""
    return ("oks_ap", "pck") if skeleton.normaliser is None else ("nme", "pck")


def measurable(scored: Scored, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the metrics that these results have: no NME where an instance lacks a prediction."""
    return tuple(name for name in names if name != "nme" or scored.found.all())


def measure(scored: Scored, names: tuple[str, ...]) -> dict[str, float]:
    """All numbers of the named metrics."""
    return {key: value for name in names for key, value in metric_named(name).measure(scored).items()}
