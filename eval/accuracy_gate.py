"""The accuracy gate: is a candidate worse than its float baseline by more than a budget, on the same images?

Hard checks come first, because a metric can flatter broken numbers (pycocotools gives an all-NaN model AP 1.0).
Then the loss, baseline to candidate, with a paired bootstrap over the images:

    pass        even the upper bound of the loss is below the budget
    fail        even the lower bound is above it
    undecided   neither; about so many images would decide

What single keypoints, hidden ones and sizes lost is told beside it, and fails a candidate if the recipe says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekp.recipe import Eval, Gate
from edgekp.sample import Float
from eval.bootstrap import Interval, Resampled, Weighted, resample
from eval.ground_truth import GroundTruth
from eval.metrics import Metric, metric_chosen
from eval.results import Result, Scored, are_named, lay_beside
from eval.slices import SliceLoss, slice_losses, slice_metric
from eval.verdict import Outcome, Verdict

MANY_INSTANCES = 2000  # from here on one percent of the baseline can be resolved
MANY_SHARE = 0.01
FEW_BUDGET = 0.02
FEW_INSTANCES = 500  # below, even two points may be beyond what the images can tell, so a verdict says what they can
FEWEST_IMAGES = 20  # below, resampling cannot show what other images would have done, so nothing passes on it
SLICE_BUDGETS = 2.0  # what a part may lose, in budgets: the whole is their mean, so some parts lose more than it
RISK = 0.05  # of calling a part worse, among all parts, that is not


def default_budget(metric: Metric, n_instances: int, baseline: float) -> float:
    """2 points (NME: 2 % of the baseline); 1 % of the baseline's AP or PCK from ``MANY_INSTANCES`` on."""
    if metric.relative or n_instances < MANY_INSTANCES:
        return FEW_BUDGET
    return MANY_SHARE * baseline


def judge_accuracy(truth: GroundTruth, baseline: list[Result], candidate: list[Result], choice: Eval,
                   gate: Gate | None = None, subject: str = "") -> Verdict:
    """Verdict on a candidate's results against the baseline's, both for the instances of ``truth``."""
    metric = metric_chosen(choice)
    facts = {"images": truth.n_measured_images, "instances": len(truth.labels.instances),
             "labels_sha256": truth.labels_sha256}
    problems = [*_hard_failures(truth, baseline, "baseline"), *_hard_failures(truth, candidate, "candidate")]
    if problems:
        return Verdict(metric.judged, subject, "fail", "not comparable", "; ".join(problems), facts)
    first, second = lay_beside(truth, baseline), lay_beside(truth, candidate)
    before, after = (_on_all_images(metric.weighted(scored), truth) for scored in (first, second))
    change = f"{before:.4f} -> {after:.4f}"
    if not np.isfinite([before, after]).all() or (metric.relative and before == 0):
        return Verdict(metric.judged, subject, "fail", change, f"{metric.judged} is undefined on this data", facts)
    lost = compare(metric, first, second, before, gate or Gate())
    outcome = decide(lost.whole, lost.budget, truth.n_measured_images, _same_predictions(first, second))
    guilty = lost.guilty if gate and gate.slices else []
    outcome = "fail" if guilty else outcome
    needed = images_needed(lost.whole, lost.budget, truth.n_measured_images) if outcome == "undecided" else None
    numbers = {**facts, "metric": metric.judged, "baseline": before, "candidate": after, **lost.to_json(),
               "loss_is": "share of the baseline" if metric.relative else "points", "images_needed": needed,
               "baseline_metrics": metric.measure(first), "candidate_metrics": metric.measure(second)}
    reason = _reason(metric, lost, guilty, len(truth.labels.instances))
    if outcome == "undecided":
        reason += f", {f'about {needed} images would decide' if needed else 'no number of images decides'}"
    return Verdict(metric.judged, subject, outcome, change, reason, numbers)


def _hard_failures(truth: GroundTruth, results: list[Result], who: str) -> Iterator[str]:
    """What no metric may smooth over: instances without a finite prediction, and predictions for other ones."""
    if are_named(results):
        yield from _misnamed(truth, results, who)
    elif {result["image_id"] for result in results} - {image.id for image in truth.labels.images}:
        yield f"{who}: predictions on other images than those of {truth.labels.path}"
    if any(len(result["keypoints"]) != 3 * len(truth.skeleton) for result in results):
        yield f"{who}: predictions of another number of keypoints than the {len(truth.skeleton)} of the labels"
    elif not np.isfinite([[*result["keypoints"], result["score"]] for result in results]).all():
        yield f"{who}: predictions hold NaN or infinity"


def _misnamed(truth: GroundTruth, results: list[Result], who: str) -> Iterator[str]:
    """A model that is shown people in boxes says something of each, and of nobody else."""
    image_of = {instance.id: instance.image.id for instance in truth.labels.instances}
    predicted = {result["annotation_id"] for result in results}
    missing = len(image_of.keys() - predicted)
    if missing:
        yield f"{who}: no finite prediction for {missing} of {len(image_of)} instances"
    if predicted - image_of.keys() or len(results) != len(predicted):
        yield f"{who}: predictions for other instances than those of {truth.labels.path}"
    elif any(result["image_id"] != image_of[result["annotation_id"]] for result in results):
        yield f"{who}: predictions on other images than those of {truth.labels.path}"


def _on_all_images(weigh: Weighted, truth: GroundTruth) -> float:
    with np.errstate(invalid="ignore"):  # where nothing can be measured, NaN says so
        return float(weigh(np.ones((1, len(truth.image_ids))))[0])


def _same_predictions(first: Scored, second: Scored) -> bool:
    """Every number of every instance is equal, in whatever order the results are."""
    name = "annotation_id" if are_named(first.results) else "image_id"  # of one image in the order of their scores
    in_order = [np.argsort([result[name] for result in scored.results], kind="stable") for scored in (first, second)]
    scores = [np.array([result["score"] for result in scored.results]) for scored in (first, second)]
    return all(np.array_equal(one[in_order[0]], other[in_order[1]])
               for one, other in ((first.triplets, second.triplets), scores))


@dataclass(frozen=True)
class Lost:
    """What a candidate lost against its baseline, as a whole and in parts, and what it may lose."""

    whole: Interval
    parts: list[SliceLoss]
    budget: float
    resamples: int

    @property
    def part_budget(self) -> float:
        return SLICE_BUDGETS * self.budget

    @property
    def resolution(self) -> float:
        """From the loss to its upper bound: about the smallest loss that these images tell from none."""
        return self.whole.upper - self.whole.point

    @property
    def worst(self) -> SliceLoss | None:
        """The part that lost most, of those where it is more than chance."""
        return max((part for part in self.parts if part.p_loss < RISK), key=lambda part: part.loss.point, default=None)

    @property
    def guilty(self) -> list[SliceLoss]:
        """Parts that lost more than theirs."""
        return [part for part in self.parts if part.p_over_budget < RISK]

    def to_json(self) -> dict[str, Any]:
        return {"loss": self.whole.point, "loss_lower_95": self.whole.lower, "loss_upper_95": self.whole.upper,
                "resolution": self.resolution, "budget": self.budget, "resamples": self.resamples,
                "slices": [part.to_json() for part in self.parts], "slice_budget": self.part_budget}


def compare(metric: Metric, first: Scored, second: Scored, before: float, gate: Gate) -> Lost:
    """Resample the losses of the whole and of its parts, all on the same images."""
    weigh, weigh_second = metric.weighted(first), metric.weighted(second)
    sliced, sliced_second = slice_metric(metric, first), slice_metric(metric, second)

    def losses(weights: Float) -> Float:
        return np.column_stack([metric.loss(weigh(weights), weigh_second(weights)),
                                metric.loss(sliced.weigh(weights), sliced_second.weigh(weights))])

    found = resample(losses, len(first.truth.image_ids), gate.resamples)
    whole, parts = (Resampled(found.point[some], found.values[:, some]) for some in (slice(0, 1), slice(1, None)))
    n_instances = len(first.truth.labels.instances)
    budget = default_budget(metric, n_instances, before) if gate.budget is None else gate.budget
    by_part = slice_losses(sliced, sliced_second, parts, SLICE_BUDGETS * budget)
    return Lost(whole.intervals()[0], by_part, budget, gate.resamples)


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


def _reason(metric: Metric, lost: Lost, guilty: list[SliceLoss], n_instances: int) -> str:
    """``drop 0.006 of 0.010 allowed (95 %: 0.002 to 0.009); most in left_wrist: OKS drop 0.011``."""
    def spell(value: float) -> str:
        return f"{100 * value:.2f} %" if metric.relative else f"{value:.4f}"

    def spell_parts(parts: list[SliceLoss]) -> str:
        return ", ".join(f"{part.name}: {part.measured} {metric.loss_word} {spell(part.loss.point)}" for part in parts)

    text = (f"{metric.loss_word} {spell(lost.whole.point)} of {spell(lost.budget)} allowed "
            f"(95 %: {spell(lost.whole.lower)} to {spell(lost.whole.upper)})")
    if n_instances < FEW_INSTANCES:
        text += f", {n_instances} instances resolve {spell(lost.resolution)}"
    if guilty:
        more = f" and {len(guilty) - 3} more" if len(guilty) > 3 else ""
        text += f"; over the {spell(lost.part_budget)} of a part, {spell_parts(guilty[:3])}{more}"
    elif lost.worst:
        text += f"; most in {spell_parts([lost.worst])}"
    return text
