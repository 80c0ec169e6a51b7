"""PCK, NME and end-point error on examples small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekp.errors import DataError, RecipeError
from edgekp.recipe import Eval
from eval.ground_truth import GroundTruth
from eval.metrics import interval_of, measurable, measure, measure_keypoints, metric_chosen, metric_named
from eval.metrics.nme import nme_metrics, pupil_px
from eval.metrics.pck import pck_metrics
from eval.results import Result, Scored, lay_beside


def exact(truth: GroundTruth, shift_px: dict[tuple[int, int], float] | None = None) -> list[Result]:
    """The truth as results, with keypoint (instance, k) moved to the right."""
    xy = truth.true_xy.copy()
    for (instance, k), distance in (shift_px or {}).items():
        xy[instance, k, 0] += distance
    return [{"image_id": entry.image.id, "category_id": 1, "annotation_id": entry.id, "score": 1.0,
             "keypoints": np.concatenate([points, np.ones((len(points), 1))], axis=1).ravel().tolist()}
            for entry, points in zip(truth.labels.instances, xy, strict=True)]


def test_pck_counts_labelled_keypoints_within_a_fifth_of_the_longer_side(toy_truth: Callable[..., GroundTruth]) -> None:
    def hide_one(document: dict[str, Any]) -> None:
        document["annotations"][0]["keypoints"][2] = 0  # keypoint 0 of the first person is not labelled
        document["annotations"][1]["bbox"] = [10, 10, 40, 20]

    truth = toy_truth(n_images=2, change=hide_one)
    moved = {(0, 0): 50.0, (0, 1): 7.9, (0, 2): 8.1, (1, 0): 7.9, (1, 1): 8.1}  # a fifth of 40 px is 8 px
    scored = lay_beside(truth, exact(truth, moved))
    assert pck_metrics(scored)["pck@0.2"] == pytest.approx(31 / 33)
    weighted = metric_named("pck").weighted(scored)(np.array([[1.0, 1.0], [2.0, 0.0]]))
    np.testing.assert_allclose(weighted, [31 / 33, 15 / 16])


def test_an_instance_without_a_prediction_has_every_keypoint_wrong(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth(n_images=4)
    scored = lay_beside(truth, exact(truth)[1:])
    assert pck_metrics(scored)["pck@0.2"] == 0.75
    assert scored.found.tolist() == [False, True, True, True]


@pytest.fixture
def faces(toy_truth: Callable[..., GroundTruth]) -> GroundTruth:
    """Two faces with 20 px between the outer eye corners."""
    def set_eyes(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["keypoints"][3 * 36:3 * 36 + 2] = [10.0, 10.0]
            annotation["keypoints"][3 * 45:3 * 45 + 2] = [30.0, 10.0]
    return toy_truth("ibug68", n_images=2, change=set_eyes)


def test_nme_is_the_mean_error_over_the_distance_of_the_outer_eye_corners(faces: GroundTruth) -> None:
    moved = {(0, k): 1.0 for k in range(68)} | {(1, k): 1.8 for k in range(68)}
    scored = lay_beside(faces, exact(faces, moved))
    metrics = nme_metrics(scored)
    assert metrics["nme"] == pytest.approx((0.05 + 0.09) / 2)
    assert metrics["failure_rate@0.08"] == 0.5
    assert metrics["failure_rate@0.10"] == 0.0
    assert metrics["auc@0.08"] == pytest.approx((1 - 0.05 / 0.08) / 2)
    np.testing.assert_allclose(metric_named("nme").weighted(scored)(np.array([[1.0, 3.0]])), [(0.05 + 3 * 0.09) / 4])


def test_a_face_without_both_eye_corners_has_no_nme(toy_truth: Callable[..., GroundTruth]) -> None:
    def hide_a_corner(document: dict[str, Any]) -> None:
        document["annotations"][0]["keypoints"][3 * 36 + 2] = 0

    truth = toy_truth("ibug68", n_images=2, change=hide_a_corner)
    corner_px = np.linalg.norm(truth.true_xy[1, 36] - truth.true_xy[1, 45])
    scored = lay_beside(truth, exact(truth, {(0, 5): 40.0, (1, 5): 6.8}))
    assert nme_metrics(scored)["nme"] == pytest.approx(6.8 / 68 / corner_px)


def test_a_face_whose_eye_corners_coincide_has_no_nme(toy_truth: Callable[..., GroundTruth]) -> None:
    def close_one(document: dict[str, Any]) -> None:
        for annotation, x in zip(document["annotations"], (10.0, 30.0), strict=True):
            annotation["keypoints"][3 * 36:3 * 36 + 2] = [10.0, 10.0]
            annotation["keypoints"][3 * 45:3 * 45 + 2] = [x, 10.0]

    truth = toy_truth("ibug68", n_images=2, change=close_one)
    moved = {(face, k): 1.0 for face in range(2) for k in range(68)}
    assert nme_metrics(lay_beside(truth, exact(truth, moved)))["nme"] == pytest.approx(0.05)


def test_nme_with_a_missing_prediction_is_undefined(faces: GroundTruth) -> None:
    scored: Scored = lay_beside(faces, exact(faces)[1:])
    with pytest.raises(DataError, match="1 of 2 instances have no prediction"):
        nme_metrics(scored)
    assert measurable(scored, ("nme", "pck")) == ("pck",)


def test_bodies_have_no_nme(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth(n_images=2)
    with pytest.raises(DataError, match="no normaliser"):
        nme_metrics(lay_beside(truth, exact(truth)))


def test_pck_by_the_torso_is_relative_to_left_shoulder_and_right_hip(toy_truth: Callable[..., GroundTruth]) -> None:
    def place(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["keypoints"][3 * 5:3 * 5 + 2] = [10.0, 10.0]
            annotation["keypoints"][3 * 12:3 * 12 + 2] = [40.0, 50.0]  # 50 px from the left shoulder
        document["annotations"][1]["keypoints"][3 * 12 + 2] = 0  # no torso: left out
        document["annotations"][2]["keypoints"][3 * 12:3 * 12 + 2] = [10.0, 10.0]  # one without length, too

    truth = toy_truth(n_images=3, change=place)
    metrics = pck_metrics(lay_beside(truth, exact(truth, {(0, 0): 4.9, (0, 1): 5.1, (0, 2): 10.1, (1, 0): 60.0})))
    assert metrics["pck_torso@0.1"] == pytest.approx(15 / 17)
    assert metrics["pck_torso@0.2"] == pytest.approx(16 / 17)
    assert "pckh@0.5" not in metrics  # no head


def test_pckh_takes_the_files_head_size_or_else_neck_to_head_top(toy_truth: Callable[..., GroundTruth]) -> None:
    def place(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["keypoints"][3 * 12:3 * 12 + 2] = [20.0, 20.0]
            annotation["keypoints"][3 * 13:3 * 13 + 2] = [20.0, 10.0]

    def with_sizes(document: dict[str, Any]) -> None:
        place(document)
        document["annotations"][0]["head_size_px"] = 20.0

    moved = {(0, 0): 4.9, (0, 1): 5.1, (1, 2): 9.9}
    truth = toy_truth("lsp14", n_images=2, change=place)
    assert pck_metrics(lay_beside(truth, exact(truth, moved)))["pckh@0.5"] == pytest.approx(26 / 28)  # of 10 px
    truth = toy_truth("lsp14", n_images=2, change=with_sizes)
    assert pck_metrics(lay_beside(truth, exact(truth, moved)))["pckh@0.5"] == 1.0  # of 20 px, the first person alone
    assert pck_metrics(lay_beside(truth, exact(truth, {(0, 0): 11.0})))["pckh@0.5"] == pytest.approx(13 / 14)


def test_nme_by_pupils_and_by_box(toy_truth: Callable[..., GroundTruth]) -> None:
    def set_eyes(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["bbox"] = [0.0, 0.0, 80.0, 20.0]  # 40 px by its area
            for eye, x in ((36, 10.0), (42, 26.0)):  # outlines around centres 16 px apart
                for point in range(6):
                    angle = point * np.pi / 3
                    annotation["keypoints"][3 * (eye + point):3 * (eye + point) + 2] = [
                        float(x + 3 * np.cos(angle)), float(10 + 2 * np.sin(angle))]

    truth = toy_truth("ibug68", n_images=2, change=set_eyes)
    metrics = nme_metrics(lay_beside(truth, exact(truth, {(0, k): 1.2 for k in range(68)}
                                                  | {(1, k): 3.2 for k in range(68)})))
    assert metrics["nme_interpupil"] == pytest.approx((0.075 + 0.2) / 2)
    assert metrics["failure_rate_interpupil@0.08"] == 0.5
    assert metrics["auc_interpupil@0.10"] == pytest.approx((1 - 0.75) / 2)
    assert metrics["nme_box"] == pytest.approx((0.03 + 0.08) / 2)
    assert metrics["failure_rate_box@0.07"] == 0.5
    assert metrics["auc_box@0.07"] == pytest.approx((1 - 0.03 / 0.07) / 2)


def test_wflw_has_pupils_of_its_own(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth("wflw98", n_images=2)
    np.testing.assert_allclose(pupil_px(truth), np.linalg.norm(truth.true_xy[:, 96] - truth.true_xy[:, 97], axis=1))


def test_each_keypoint_has_its_own_numbers(toy_truth: Callable[..., GroundTruth]) -> None:
    def hide(document: dict[str, Any]) -> None:
        document["annotations"][0]["keypoints"][2] = 0
        for annotation in document["annotations"]:
            annotation["keypoints"][5] = 0

    truth = toy_truth(n_images=2, change=hide)
    scored = lay_beside(truth, exact(truth, {(0, 0): 50.0, (0, 2): 4.0, (1, 2): 9.0}))
    found = measure_keypoints(scored)
    assert found["nose"] == {"labelled": 1, "oks": 1.0, "pck@0.2": 1.0, "error_px": 0.0}
    assert found["left_eye"] == {"labelled": 0}
    spread_px2 = 2 * (2 * 0.025) ** 2 * 800
    assert found["right_eye"] == pytest.approx({
        "labelled": 2, "pck@0.2": 0.5, "error_px": 6.5,
        "oks": (np.exp(-16 / spread_px2) + np.exp(-81 / spread_px2)) / 2})
    assert measure(scored, ("pck",))["epe_px"] == pytest.approx(13 / 31)


def test_without_a_prediction_there_is_no_end_point_error(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth(n_images=4)
    scored = lay_beside(truth, exact(truth)[1:])
    assert "epe_px" not in measure(scored, ("pck",))
    assert measure_keypoints(scored)["nose"] == {"labelled": 4, "oks": 0.75, "pck@0.2": 0.75}


@pytest.mark.parametrize(("choice", "skeleton", "judged"), [
    (Eval(metric="pck"), "lsp14", "pck@0.2"), (Eval(metric="pck", threshold=0.15), "lsp14", "pck@0.15"),
    (Eval(metric="pck", normaliser="head", threshold=0.5), "lsp14", "pckh@0.5"),
    (Eval(metric="pck", normaliser="torso"), "lsp14", "pck_torso@0.2"), (Eval(metric="nme"), "ibug68", "nme"),
    (Eval(metric="nme", normaliser="pupils"), "ibug68", "nme_interpupil"),
    (Eval(metric="nme", normaliser="box"), "ibug68", "nme_box")])
def test_a_recipe_chooses_what_is_divided_by(toy_truth: Callable[..., GroundTruth],
                                             scattered: Callable[..., list[Result]], rng: np.random.Generator,
                                             choice: Eval, skeleton: str, judged: str) -> None:
    truth = toy_truth(skeleton, n_images=6)
    scored, metric = lay_beside(truth, scattered(truth, rng, 3.0, 0.2)), metric_chosen(choice)
    assert metric.judged == judged
    value = metric.weighted(scored)(np.ones((1, 6)))[0]
    assert value == pytest.approx(measure(scored, (choice.metric,), choice)[judged])
    interval = interval_of(scored, choice.metric, choice)
    assert interval is not None
    assert interval["of"] == judged
    assert interval["lower_95"] <= interval["value"] <= interval["upper_95"]


@pytest.mark.parametrize("fields", [
    {"metric": "oks_ap", "normaliser": "box"}, {"metric": "pck", "normaliser": "pupils"},
    {"metric": "nme", "normaliser": "torso"}, {"metric": "nme", "threshold": 0.5}, {"metric": "pck", "threshold": 0.0}])
def test_a_choice_that_does_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"eval\.(normaliser|threshold)"):
        Eval(**fields)
