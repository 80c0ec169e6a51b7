"""Metrics by name, how a gate speaks of each, and which of them make sense for a skeleton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgekp.errors import DataError, unknown_name
from edgekp.recipe import Eval
from edgekp.sample import Float
from edgekp.skeletons import Skeleton
from eval.bootstrap import Weighted, resample
from eval.metrics import nme
from eval.metrics.coco_matching import AreaRange
from eval.metrics.keypoint_values import error_px, similarity, weighted_mean
from eval.metrics.nme import instance_nme, keypoint_nme, nme_metrics
from eval.metrics.oks_ap import oks_ap_metrics, weighted_ap
from eval.metrics.pck import keypoint_correct, pck_metrics, pck_name
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
        keypoint_judged: what a verdict calls a mean of ``keypoint_values``.
        keypoint_values: (N, K) what single keypoints are worth, NaN where they are not measured.
        weighted_in: the main number for instances in a range of areas, where it is no mean over keypoints.
        loss: how much worse the second of two values is; what a budget limits.
        loss_word: what a verdict calls it.
        relative: the loss is a share of the baseline, not points.
    """

    judged: str
    measure: Callable[[Scored], dict[str, float]]
    weighted: Callable[[Scored], Weighted]
    keypoint_judged: str
    keypoint_values: Callable[[Scored], Float]
    weighted_in: Callable[[Scored, AreaRange], Weighted] | None = None
    loss: Callable[[Float, Float], Float] = _points_lost
    loss_word: str = "drop"
    relative: bool = False


def _oks_ap(choice: Eval) -> Metric:
    return Metric("AP (all points)", oks_ap_metrics, weighted_ap, "OKS", similarity, weighted_ap)


def _pck(choice: Eval) -> Metric:
    normaliser = "box" if choice.normaliser == "auto" else choice.normaliser
    name = pck_name(normaliser, choice.threshold)

    def values(scored: Scored) -> Float:
        return keypoint_correct(scored, normaliser, choice.threshold)

    def measure_all(scored: Scored) -> dict[str, float]:
        correct = values(scored)
        return pck_metrics(scored) | ({name: float(np.nanmean(correct))} if np.isfinite(correct).any() else {})

    return Metric(name, measure_all, lambda scored: weighted_mean(scored.truth, values(scored)), name, values)


def _nme(choice: Eval) -> Metric:
    normaliser = "eye_corners" if choice.normaliser == "auto" else choice.normaliser
    name = nme.NORMALISERS[normaliser].name
    return Metric(name, nme_metrics,
                  lambda scored: weighted_mean(scored.truth, instance_nme(scored, normaliser)[:, None]),
                  name, lambda scored: keypoint_nme(scored, normaliser),
                  loss=_share_risen, loss_word="rise", relative=True)


MetricName = Literal["oks_ap", "pck", "nme"]
METRICS: dict[str, Callable[[Eval], Metric]] = {"oks_ap": _oks_ap, "pck": _pck, "nme": _nme}


def metric_named(name: str) -> Metric:
    """A metric as it is customary."""
    if name not in METRICS:
        raise DataError(unknown_name("metric", name, list(METRICS)))
    return METRICS[name](Eval())


def metric_chosen(choice: Eval) -> Metric:
    """A metric with the normaliser and threshold that a recipe asks for."""
    return METRICS[choice.metric](choice)


def _metric(name: str, choice: Eval | None) -> Metric:
    return metric_chosen(choice) if choice and choice.metric == name else metric_named(name)


def metrics_for(skeleton: Skeleton) -> tuple[MetricName, ...]:
    """NME and PCK where NME is customary (faces), else OKS AP and PCK; the first is the one to gate on."""
    return ("oks_ap", "pck") if skeleton.normaliser is None else ("nme", "pck")


def measurable(scored: Scored, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the metrics that these results have: no NME where an instance lacks a prediction."""
    return tuple(name for name in names if name != "nme" or scored.found.all())


def measure(scored: Scored, names: tuple[str, ...], choice: Eval | None = None) -> dict[str, float]:
    """All numbers of the named metrics, and the mean end-point error where every instance has a prediction.

    Args:
        choice: a recipe's, whose normaliser and threshold are those of the metric that it names.
    """
    numbers = {key: value for name in names for key, value in _metric(name, choice).measure(scored).items()}
    return numbers | ({"epe_px": float(np.nanmean(error_px(scored)))} if scored.found.all() else {})


def interval_of(scored: Scored, name: str, choice: Eval | None = None) -> dict[str, Any] | None:
    """The metric's main number with its one-sided 95 % bounds over the choice of the images; None where undefined."""
    metric = _metric(name, choice)
    interval = resample(metric.weighted(scored), len(scored.truth.image_ids)).intervals()[0]
    if not np.isfinite(interval.point):
        return None
    return {"of": metric.judged, "value": interval.point, "lower_95": interval.lower, "upper_95": interval.upper}


def measure_keypoints(scored: Scored) -> dict[str, dict[str, float]]:
    """For each keypoint how many are labelled, and its mean OKS, PCK and end-point error, undefined ones left out."""
    labelled = scored.truth.labelled
    values = {"oks": similarity(scored), "pck@0.2": keypoint_correct(scored, "box", 0.2), "error_px": error_px(scored)}
    means = {name: np.where(labelled, of_all, 0.0).sum(0) / np.maximum(labelled.sum(0), 1)
             for name, of_all in values.items()}
    return {keypoint: {"labelled": int(labelled[:, k].sum())}
            | {name: float(mean[k]) for name, mean in means.items() if labelled[:, k].any() and np.isfinite(mean[k])}
            for k, keypoint in enumerate(scored.truth.skeleton.keypoints)}
