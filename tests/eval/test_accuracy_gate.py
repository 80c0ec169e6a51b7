"""The accuracy gate: what passes, what fails, what is left undecided, and that broken numbers never pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekp.atomic import sha256
from edgekp.errors import RecipeError
from edgekp.recipe import Eval, Gate
from eval.accuracy_gate import decide, default_budget, images_needed, judge_accuracy
from eval.bootstrap import Interval, paired_interval
from eval.ground_truth import GroundTruth
from eval.metrics import METRICS, metric_named
from eval.results import Result

REPETITIONS = 40


@pytest.mark.parametrize(("interval", "outcome"), [
    (Interval(0.00, -0.01, 0.01), "pass"),
    (Interval(0.01, 0.000, 0.03), "undecided"),
    (Interval(0.03, 0.010, 0.05), "undecided"),
    (Interval(0.03, 0.021, 0.04), "fail"),
    (Interval(-0.2, -0.30, -0.1), "pass"),
])
def test_the_whole_interval_must_lie_on_one_side_of_the_budget(interval: Interval, outcome: str) -> None:
    assert decide(interval, budget=0.02, n_images=100) == outcome


def test_a_handful_of_images_can_fail_but_not_pass_a_changed_model() -> None:
    calm, broken = Interval(0.0, 0.0, 0.0), Interval(0.5, 0.4, 0.6)
    assert decide(calm, 0.02, n_images=5) == "undecided"
    assert decide(broken, 0.02, n_images=5) == "fail"
    assert decide(calm, 0.02, n_images=5, same_predictions=True) == "pass"


def test_images_needed_grow_with_the_square_of_the_missing_precision() -> None:
    assert images_needed(Interval(0.01, -0.01, 0.03), 0.02, 100) == 400  # reach 0.02, gap 0.01
    assert images_needed(Interval(0.03, 0.00, 0.05), 0.02, 100) == 900  # reach 0.03 downwards, gap 0.01
    assert images_needed(Interval(0.02, 0.01, 0.03), 0.02, 100) is None


@pytest.mark.parametrize(("skeleton", "choice"), [
    ("coco17", Eval()), ("coco17", Eval(metric="pck")), ("coco17", Eval(metric="pck", normaliser="torso")),
    ("lsp14", Eval(metric="pck", normaliser="head", threshold=0.5)), ("ibug68", Eval(metric="nme")),
    ("ibug68", Eval(metric="nme", normaliser="pupils")), ("ibug68", Eval(metric="nme", normaliser="box"))])
def test_a_model_passes_against_itself_and_fails_when_damaged(
        toy_truth: Callable[..., GroundTruth], scattered: Callable[..., list[Result]], rng: np.random.Generator,
        skeleton: str, choice: Eval) -> None:
    truth = toy_truth(skeleton, n_images=60)
    baseline, damaged = scattered(truth, rng), scattered(truth, rng, 1.0, 0.4)
    assert judge_accuracy(truth, baseline, baseline, choice).outcome == "pass"
    verdict = judge_accuracy(truth, baseline, damaged, choice)
    assert verdict.outcome == "fail"
    assert verdict.gate == verdict.numbers["metric"]
    assert verdict.numbers["loss"] > verdict.numbers["budget"] == 0.02
    assert verdict.numbers["labels_sha256"] == sha256(truth.labels.path)


def test_a_better_model_passes(toy_truth: Callable[..., GroundTruth], scattered: Callable[..., list[Result]],
                               rng: np.random.Generator) -> None:
    truth = toy_truth("ibug68", n_images=60)
    verdict = judge_accuracy(truth, scattered(truth, rng, 2.0), scattered(truth, rng, 1.0), Eval(metric="nme"))
    assert verdict.outcome == "pass"
    assert verdict.numbers["loss"] == pytest.approx(-0.5, abs=0.05)  # half the error is half the NME


def damaged(results: list[Result], **fields: Any) -> list[Result]:
    """The first result changed."""
    return [results[0] | fields, *results[1:]]


DAMAGES: dict[str, tuple[Callable[[list[Result]], list[Result]], str]] = {
    "an instance without a prediction": (lambda good: good[1:], "no finite prediction for 1 of 30"),
    "no prediction at all": (lambda good: [], "no finite prediction for 30 of 30"),
    "a NaN": (lambda good: damaged(good, keypoints=[float("nan")] * 204), "NaN"),
    "an infinite score": (lambda good: damaged(good, score=float("inf")), "NaN or infinity"),
    "all NaN": (lambda good: [entry | {"keypoints": [float("nan")] * 204} for entry in good], "NaN"),
    "an instance twice": (lambda good: [*good, good[0]], "other instances"),
    "an instance that is not there": (lambda good: damaged(good, annotation_id=99), "other instances"),
    "another image": (lambda good: damaged(good, image_id=good[1]["image_id"]), "on other images"),
    "another number of keypoints": (lambda good: damaged(good, keypoints=[1.0] * 51), "another number of keypoints"),
}


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_hard_checks_come_before_any_metric(toy_truth: Callable[..., GroundTruth],
                                            scattered: Callable[..., list[Result]], rng: np.random.Generator,
                                            metric: Any, damage: str) -> None:
    truth = toy_truth("ibug68", n_images=30)
    good, (harm, reason) = scattered(truth, rng), DAMAGES[damage]
    for who, pair in (("candidate", (good, harm(good))), ("baseline", (harm(good), good))):
        verdict = judge_accuracy(truth, *pair, Eval(metric=metric))
        assert (verdict.outcome, verdict.change) == ("fail", "not comparable")
        assert verdict.reason.startswith(f"{who}: ")
        assert reason in verdict.reason
        assert "baseline" not in verdict.numbers  # no metric was computed that could flatter it


def test_a_metric_that_the_data_cannot_give_fails(toy_truth: Callable[..., GroundTruth],
                                                  scattered: Callable[..., list[Result]],
                                                  rng: np.random.Generator) -> None:
    def hide_the_hips(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["keypoints"][3 * 12 + 2] = 0

    truth = toy_truth(n_images=30, change=hide_the_hips)
    results = scattered(truth, rng)
    verdict = judge_accuracy(truth, results, results, Eval(metric="pck", normaliser="torso"))
    assert (verdict.outcome, verdict.reason) == ("fail", "pck_torso@0.2 is undefined on this data")


def test_a_perfect_baseline_leaves_no_share_to_rise_by(toy_truth: Callable[..., GroundTruth],
                                                       scattered: Callable[..., list[Result]],
                                                       rng: np.random.Generator) -> None:
    truth = toy_truth("ibug68", n_images=30)
    verdict = judge_accuracy(truth, scattered(truth, rng, 0.0), scattered(truth, rng, 1.0), Eval(metric="nme"))
    assert (verdict.outcome, verdict.reason) == ("fail", "nme is undefined on this data")


@pytest.mark.parametrize("budget", [0.0, -0.1, float("nan")])
def test_a_budget_of_nothing_is_refused(budget: float) -> None:
    with pytest.raises(RecipeError, match="above 0"):
        Gate(budget=budget)


def test_the_default_budget_shrinks_when_there_is_data_to_see_it() -> None:
    assert default_budget(metric_named("oks_ap"), 500, 0.7) == 0.02
    assert default_budget(metric_named("oks_ap"), 1999, 0.7) == 0.02
    assert default_budget(metric_named("oks_ap"), 2000, 0.7) == pytest.approx(0.007)
    assert default_budget(metric_named("nme"), 2000, 0.04) == 0.02


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        base = rng.normal(1.0, 0.2, 80)
        worse = base + rng.normal(0.05, 0.1, 80)  # true difference 0.05
        interval = paired_interval(lambda w, v=base: w @ v / w.sum(1), lambda w, v=worse: w @ v / w.sum(1),
                                   lambda first, second: second - first, 80, resamples=300)
        held += interval.lower < 0.05 < interval.upper
    assert 0.83 <= held / 200 <= 0.96  # two one-sided 95 % bounds: 90 %, three standard errors of 200 trials below


def test_a_small_set_says_what_it_can_tell(toy_truth: Callable[..., GroundTruth],
                                           scattered: Callable[..., list[Result]], rng: np.random.Generator) -> None:
    truth, pck = toy_truth(n_images=60), Eval(metric="pck")
    few = judge_accuracy(truth, scattered(truth, rng), scattered(truth, rng), pck)
    assert f"60 instances resolve {few.numbers['resolution']:.4f}" in few.reason
    enough = toy_truth(n_images=100, per_image=5)
    assert "resolve" not in judge_accuracy(enough, scattered(enough, rng), scattered(enough, rng), pck).reason
