"""Parts of the data: each is what its name says, a damaged one is named, and chance is not taken for damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from edgekp.recipe import Eval, Gate
from eval.accuracy_gate import RISK, judge_accuracy
from eval.bootstrap import resample
from eval.ground_truth import GroundTruth
from eval.metrics import measure_keypoints, metric_chosen
from eval.metrics.coco_matching import LARGE, MEDIUM
from eval.metrics.oks_ap import weighted_ap
from eval.results import Result, Scored, lay_beside
from eval.slices import holm, sizes_of, slice_losses, slice_metric

WRIST = 9


def moved(results: list[Result], k: int, distance_px: float) -> list[Result]:
    """Keypoint ``k`` further to the right."""
    x = 3 * k
    return [result | {"keypoints": [*result["keypoints"][:x], result["keypoints"][x] + distance_px,
                                    *result["keypoints"][x + 1:]]} for result in results]


def of_two_sizes(document: dict[str, Any]) -> None:
    """Every other person is large; the first keypoint of every third is hidden."""
    for number, annotation in enumerate(document["annotations"]):
        annotation["area"] = 96.0**2 + 1 if number % 2 else 96.0**2 - 1
        annotation["keypoints"][2] = 1 if number % 3 == 0 else 2


@pytest.mark.parametrize("choice", [Eval(), Eval(metric="pck")])
def test_one_damaged_keypoint_is_named_and_fails_only_where_parts_may(
        toy_truth: Callable[..., GroundTruth], scattered: Callable[..., list[Result]], rng: np.random.Generator,
        choice: Eval) -> None:
    truth = toy_truth(n_images=80)
    baseline = scattered(truth, rng)
    candidate = moved(baseline, WRIST, 12.0)
    whole = judge_accuracy(truth, baseline, candidate, choice, Gate(budget=0.3))
    assert whole.outcome == "pass"
    assert "; most in left_wrist: " in whole.reason
    worst = whole.numbers["slices"][0]
    assert (worst["name"], worst["images"]) == ("left_wrist", 80)
    assert worst["loss"] == pytest.approx(worst["baseline"] - worst["candidate"])
    assert worst["loss_lower_95"] > whole.numbers["slice_budget"] == 0.6
    others = [part for part in whole.numbers["slices"] if part["measured"] != "AP (all points)"
              and part["name"] not in ("left_wrist", "visible")]
    assert len(others) == 16
    assert all((part["loss"], part["p_loss"], part["p_over_budget"]) == (0, 1, 1) for part in others)
    in_parts = judge_accuracy(truth, baseline, candidate, choice, Gate(budget=0.3, slices=True))
    assert in_parts.outcome == "fail"
    assert "; over the 0.6000 of a part, left_wrist: " in in_parts.reason


def test_parts_without_damage_pass_where_parts_may_fail(toy_truth: Callable[..., GroundTruth],
                                                        scattered: Callable[..., list[Result]],
                                                        rng: np.random.Generator) -> None:
    truth = toy_truth(n_images=80)
    baseline = scattered(truth, rng)
    for candidate in (scattered(truth, rng), baseline):
        verdict = judge_accuracy(truth, baseline, candidate, Eval(metric="pck"), Gate(slices=True))
        assert verdict.outcome == "pass"
        assert "most in" not in verdict.reason


def test_each_part_is_what_its_name_says(toy_truth: Callable[..., GroundTruth],
                                         scattered: Callable[..., list[Result]], rng: np.random.Generator) -> None:
    truth = toy_truth(n_images=90, change=of_two_sizes)
    scored = lay_beside(truth, scattered(truth, rng, 2.0, 0.1))
    parts = slice_metric(metric_chosen(Eval()), scored)
    values = dict(zip(parts.names, parts.values, strict=True))
    once = np.ones((1, 90))
    for name, of_keypoint in measure_keypoints(scored).items():
        assert values[name] == pytest.approx(of_keypoint["oks"])
    assert values["medium"] == weighted_ap(scored, MEDIUM)(once)[0]
    assert values["large"] == weighted_ap(scored, LARGE)(once)[0] != values["medium"]
    first_k = np.exp(-scored.error_px[:, 0] ** 2 / (2 * (2 * truth.skeleton.sigmas[0]) ** 2 * truth.area_px2))
    assert values["hidden"] == pytest.approx(first_k[::3].mean())
    assert dict(zip(parts.names, parts.images, strict=True)) == dict.fromkeys(truth.skeleton.keypoints, 90) | {
        "hidden": 30, "visible": 90, "medium": 45, "large": 45}


def test_parts_on_few_images_are_left_out(toy_truth: Callable[..., GroundTruth],
                                          scattered: Callable[..., list[Result]], rng: np.random.Generator) -> None:
    def hide(document: dict[str, Any]) -> None:
        for annotation in document["annotations"][19:]:
            annotation["keypoints"][2] = 0
        for annotation in document["annotations"][20:]:
            annotation["keypoints"][5] = 0

    truth = toy_truth(n_images=60, change=hide)
    names = slice_metric(metric_chosen(Eval()), lay_beside(truth, scattered(truth, rng))).names
    assert "nose" not in names  # on 19 images
    assert "left_eye" in names  # on 20
    assert "hidden" not in names


def test_sizes_are_cocos_or_else_thirds(toy_truth: Callable[..., GroundTruth]) -> None:
    assert list(sizes_of(toy_truth(n_images=90, change=of_two_sizes))) == ["medium", "large"]
    assert sizes_of(toy_truth(n_images=30)) == {}  # all of one size

    def rising(document: dict[str, Any]) -> None:
        for number, annotation in enumerate(document["annotations"]):
            annotation["area"] = 2000.0 + number

    thirds = sizes_of(toy_truth(n_images=60, change=rising))
    assert list(thirds) == ["smallest third", "middle third", "largest third"]
    assert thirds["smallest third"][1] == pytest.approx(2000 + 59 / 3)


def test_a_relative_metric_has_relative_parts(toy_truth: Callable[..., GroundTruth],
                                              scattered: Callable[..., list[Result]],
                                              rng: np.random.Generator) -> None:
    truth = toy_truth("ibug68", n_images=60)
    verdict = judge_accuracy(truth, scattered(truth, rng, 1.0), scattered(truth, rng, 1.1), Eval(metric="nme"))
    assert [part["loss"] for part in verdict.numbers["slices"]] == pytest.approx([0.1] * 68 + [0.1], abs=0.35)
    assert "visible" in [part["name"] for part in verdict.numbers["slices"]]
    json.dumps(verdict.numbers, allow_nan=False)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_part_without_any_error_before_has_no_share_to_rise_by(toy_truth: Callable[..., GroundTruth],
                                                                 scattered: Callable[..., list[Result]],
                                                                 rng: np.random.Generator, wrong: int) -> None:
    """Nor has one whose error is on a single image, which is missing in every third resample."""
    truth = toy_truth("ibug68", n_images=40)
    baseline = scattered(truth, rng)
    for result, instance in list(zip(baseline, truth.labels.instances, strict=True))[wrong:]:
        result["keypoints"][:2] = instance.keypoints_xy[0].tolist()
    verdict = judge_accuracy(truth, baseline, scattered(truth, rng), Eval(metric="nme"))
    names = [part["name"] for part in verdict.numbers["slices"]]
    assert "jaw_0" not in names
    assert "jaw_1" in names
    json.dumps(verdict.numbers, allow_nan=False)


def test_holm_multiplies_the_smallest_by_all_and_never_reorders() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.5])), [1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


def test_of_equal_models_hardly_ever_a_part_is_called_worse(toy_truth: Callable[..., GroundTruth]) -> None:
    """At most 5 % of the time by Holm's rule; without a correction, more often than not."""
    truth, metric = toy_truth(n_images=60), metric_chosen(Eval(metric="pck"))
    rng, repetitions, corrected, alone = np.random.default_rng(6), 60, 0, 0
    for _ in range(repetitions):
        spread_px = 5.0  # of a limit of 8 px: each keypoint is wrong now and then
        first, second = (slice_metric(metric, Scored(truth, (), truth.true_xy + rng.normal(0, spread_px, (60, 17, 2))))
                         for _ in range(2))
        losses = resample(lambda weights, one=first, other=second: one.weigh(weights) - other.weigh(weights), 60, 200)
        parts = slice_losses(first, second, losses, 0.04)
        corrected += any(part.p_loss < RISK for part in parts)
        alone += any(part.loss.lower > 0 for part in parts)
    assert corrected <= binom.ppf(0.999, repetitions, RISK)
    assert alone > repetitions / 2
