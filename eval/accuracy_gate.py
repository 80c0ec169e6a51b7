"""The accuracy gate: is a candidate worse than its float baseline by more than a budget, on the same images?

Hard checks come first, because a metric can flatter broken numbers (pycocotools gives an all-NaN model AP 1.0).
Then the loss, baseline to candidate, with a paired bootstrap over the images:

    pass        even the upper bound of the loss is below the budget
    fail        even the lower bound is above it
    undecided   neither; about so many images would decide
"""

from __future__ import annotations

import numpy as np

from edgekp.errors import DataError
from edgekp.sample import Float
from eval.bootstrap import RESAMPLES, Interval, paired_interval
from eval.ground_truth import GroundTruth
from eval.metrics import Metric, metric_named
from eval.results import Result, Scored, lay_beside
from eval.verdict import Outcome, Verdict

MANY_INSTANCES = 2000  # from here on one percent of the baseline can be resolved
MANY_SHARE = 0.01
FEW_BUDGET = 0.02
FEWEST_IMAGES = 20  # below, resampling cannot show what other images would have done, so nothing passes on it


def default_budget(metric: Metric, truth: GroundTruth, baseline: float) -> float:
    """2 points (NME: 2 % of the baseline); 1 % of the baseline's AP or PCK from ``MANY_INSTANCES`` on."""
    if metric.relative or len(truth.labels.instances) < MANY_INSTANCES:
        return FEW_BUDGET
    return MANY_SHARE * baseline


def judge_accuracy(truth: GroundTruth, baseline: list[Result], candidate: list[Result], metric_name: str,
                   budget: float | None = None, resamples: int = RESAMPLES, subject: str = "") -> Verdict:
    """Verdict on a candidate's results against the baseline's, both for the instances of ``truth``."""
    metric = metric_named(metric_name)
    if budget is not None and not budget > 0:
        raise DataError(f"budget {budget}: expected a number above 0, such as 0.02 for two points")
    counts = {"images": len(truth.image_ids), "instances": len(truth.labels.instances)}
    problems = _hard_failures(truth, baseline, "baseline") + _hard_failures(truth, candidate, "candidate")
    if problems:
        return Verdict(metric.judged, subject, "fail", "not comparable", "; ".join(problems), counts)
    first, second = lay_beside(truth, baseline), lay_beside(truth, candidate)
    return _judge_measured(metric, first, second, budget, resamples, subject, counts)


def _hard_failures(truth: GroundTruth, results: list[Result], who: str) -> list[str]:
    """What no metric may smooth over: instances without a finite prediction, and predictions for other ones."""
    expected = {instance.id for instance in truth.labels.instances}
    predicted = {result["annotation_id"] for result in results}
    problems = []
    if expected - predicted:
        problems.append(f"{who}: no finite prediction for {len(expected - predicted)} of {len(expected)} instances")
    if predicted - expected or len(results) != len(predicted):
        problems.append(f"{who}: predictions for other instances than those of {truth.labels.path}")
    values = np.array([[*result["keypoints"], result["score"]] for result in results])
    if not np.isfinite(values).all():
        problems.append(f"{who}: predictions hold NaN or infinity")
    return problems


def _judge_measured(metric: Metric, first: Scored, second: Scored, budget: float | None, resamples: int,
                    subject: str, counts: dict[str, int]) -> Verdict:
    weigh_first, weigh_second = metric.weighted(first), metric.weighted(second)
    once = np.ones((1, counts["images"]))
    before, after = float(weigh_first(once)[0]), float(weigh_second(once)[0])
    if not np.isfinite([before, after]).all() or (metric.relative and before == 0):
        reason = f"{metric.judged} is undefined on this data"
        return Verdict(metric.judged, subject, "fail", f"{before:.4f} -> {after:.4f}", reason, counts)
    allowed = default_budget(metric, first.truth, before) if budget is None else budget
    loss = paired_interval(weigh_first, weigh_second, metric.loss, counts["images"], resamples)
    same = np.array_equal(_all_values(first), _all_values(second))
    outcome = decide(loss, allowed, counts["images"], same)
    needed = images_needed(loss, allowed, counts["images"]) if outcome == "undecided" else None
    numbers = {**counts, "metric": metric.judged, "baseline": before, "candidate": after, "loss": loss.point,
               "loss_lower_95": loss.lower, "loss_upper_95": loss.upper, "budget": allowed,
               "loss_is": "share of the baseline" if metric.relative else "points",
               "resolution": loss.upper - loss.point, "images_needed": needed, "resamples": resamples,
               "baseline_metrics": metric.measure(first), "candidate_metrics": metric.measure(second)}
    return Verdict(metric.judged, subject, outcome, f"{before:.4f} -> {after:.4f}",
                   _reason(metric, loss, allowed, outcome, needed), numbers)


def decide(loss: Interval, budget: float, n_images: int, same_predictions: bool = False) -> Outcome:
    """Pass and fail need the whole one-sided 95 % interval on their side of the budget."""
    if same_predictions:
        return "pass"
    if loss.lower > budget:
        return "fail"
    if loss.upper < budget and n_images >= FEWEST_IMAGES:
        return "pass"
    return "undecided"


def images_needed(loss: Interval, budget: float, n_images: int) -> int | None:
    """About how many images would decide, if the loss stays what it is: the interval shrinks with their square root.

    None where the loss is the budget itself, so that no number decides.
    """
    gap = abs(budget - loss.point)
    reach = loss.upper - loss.point if loss.point < budget else loss.point - loss.lower
    if gap == 0:
        return None
    return max(FEWEST_IMAGES, n_images + 1, round(n_images * (reach / gap) ** 2))


def _all_values(scored: Scored) -> Float:
    """Every predicted number, in the order of the instances."""
    in_order = sorted(scored.results, key=lambda result: int(result["annotation_id"]))
    return np.array([[*result["keypoints"], result["score"]] for result in in_order])


def _reason(metric: Metric, loss: Interval, budget: float, outcome: Outcome, needed: int | None) -> str:
    """``drop 0.006 of 0.010 allowed (95 %: 0.002 to 0.009)``."""
    def spell(value: float) -> str:
        return f"{100 * value:.2f} %" if metric.relative else f"{value:.4f}"

    text = (f"{metric.loss_word} {spell(loss.point)} of {spell(budget)} allowed "
            f"(95 %: {spell(loss.lower)} to {spell(loss.upper)})")
    if outcome != "undecided":
        return text
    return f"{text}, {f'about {needed} images would decide' if needed else 'no number of images decides'}"
