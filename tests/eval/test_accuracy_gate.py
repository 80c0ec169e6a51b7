"""The accuracy gate: what passes, what fails, what is left undecided, and that broken numbers never pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekp.errors import DataError
from eval.accuracy_gate import decide, default_budget, images_needed, judge_accuracy
from eval.bootstrap import Interval, paired_interval
from eval.ground_truth import GroundTruth
from eval.metrics import METRICS
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


@pytest.mark.parametrize(("skeleton", "metric"), [("coco17", "oks_ap"), ("coco17", "pck"), ("ibug68", "nme")])
def test_a_model_passes_against_itself_and_fails_when_damaged(
        toy_truth: Callable[..., GroundTruth], scattered: Callable[..., list[Result]], rng: np.random.Generator,
        skeleton: str, metric: str) -> None:
    truth = toy_truth(skeleton, n_images=60)
    baseline, damaged = scattered(truth, rng), scattered(truth, rng, 1.0, 0.4)
    assert judge_accuracy(truth, baseline, baseline, metric).outcome == "pass"
    verdict = judge_accuracy(truth, baseline, damaged, metric)
    assert verdict.outcome == "fail"
    assert verdict.numbers["loss"] > verdict.numbers["budget"] == 0.02


def test_a_better_model_passes(toy_truth: Callable[..., GroundTruth], scattered: Callable[..., list[Result]],
                               rng: np.random.Generator) -> None:
    truth = toy_truth("ibug68", n_images=60)
    verdict = judge_accuracy(truth, scattered(truth, rng, 2.0), scattered(truth, rng, 1.0), "nme")
    assert verdict.outcome == "pass"
    assert verdict.numbers["loss"] == pytest.approx(-0.5, abs=0.05)  # half the error is half the NME


@pytest.mark.parametrize("metric", list(METRICS))
def test_hard_checks_come_before_any_metric(toy_truth: Callable[..., GroundTruth],
                                            scattered: Callable[..., list[Result]], rng: np.random.Generator,
                                            metric: str) -> None:
    truth = toy_truth("ibug68", n_images=30)
    good = scattered(truth, rng)
    hole = [good[0] | {"keypoints": [float("nan")] * 204}, *good[1:]]
    for candidate, reason in [(good[1:], "no finite prediction for 1 of 30"), ([], "no finite prediction for 30 of 30"),
                              (hole, "NaN"), ([*good, good[0]], "other instances")]:
        verdict = judge_accuracy(truth, good, candidate, metric)
        assert verdict.outcome == "fail"
        assert "candidate" in verdict.reason
        assert reason in verdict.reason
    assert "baseline" in judge_accuracy(truth, good[1:], good, metric).reason


@pytest.mark.parametrize("budget", [0.0, -0.1, float("nan")])
def test_a_budget_of_nothing_is_refused(toy_truth: Callable[..., GroundTruth], budget: float) -> None:
    with pytest.raises(DataError, match="above 0"):
        judge_accuracy(toy_truth(), [], [], "oks_ap", budget)


def test_the_default_budget_shrinks_when_there_is_data_to_see_it(toy_truth: Callable[..., GroundTruth]) -> None:
    few, many = toy_truth("lsp14", n_images=100), toy_truth("lsp14", n_images=500, per_image=4)
    assert default_budget(METRICS["oks_ap"], few, 0.7) == 0.02
    assert default_budget(METRICS["oks_ap"], many, 0.7) == pytest.approx(0.007)
    assert default_budget(METRICS["nme"], many, 0.04) == 0.02


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        base = rng.normal(1.0, 0.2, 80)
        worse = base + rng.normal(0.05, 0.1, 80)  # true difference 0.05
        interval = paired_interval(lambda w, v=base: w @ v / w.sum(1), lambda w, v=worse: w @ v / w.sum(1),
                                   lambda first, second: second - first, 80, resamples=300)
        held += interval.lower < 0.05 < interval.upper
    assert 0.83 <= held / 200 <= 0.96  # two one-sided 95 % bounds: 90 %, three standard errors of 200 trials below


def outcomes(truth: GroundTruth, scattered: Callable[..., list[Result]], metric: str, wrong: tuple[float, float],
             budget: float) -> list[str]:
    """Verdicts over repeated pairs of models with the given shares of wrong keypoints."""
    rng = np.random.default_rng(8)
    return [judge_accuracy(truth, scattered(truth, rng, 1.0, wrong[0]), scattered(truth, rng, 1.0, wrong[1]), metric,
                           budget, resamples=300).outcome for _ in range(REPETITIONS)]


def test_pck_gate_at_no_drop_and_at_twice_the_budget(toy_truth: Callable[..., GroundTruth],
                                                     scattered: Callable[..., list[Result]]) -> None:
    truth = toy_truth(n_images=200)
    assert outcomes(truth, scattered, "pck", (0.2, 0.2), 0.03).count("fail") <= 0.05 * REPETITIONS
    twice = outcomes(truth, scattered, "pck", (0.2, 0.26), 0.03)
    assert twice.count("pass") <= 0.05 * REPETITIONS
    assert twice.count("fail") >= 0.6 * REPETITIONS


@pytest.mark.slow
def test_ap_gate_at_no_drop_and_at_a_large_one(toy_truth: Callable[..., GroundTruth],
                                               scattered: Callable[..., list[Result]]) -> None:
    truth = toy_truth(n_images=100)
    assert outcomes(truth, scattered, "oks_ap", (0.1, 0.1), 0.05).count("fail") <= 0.05 * REPETITIONS
    assert outcomes(truth, scattered, "oks_ap", (0.1, 0.3), 0.05).count("fail") == REPETITIONS
