"""PCK and NME on examples small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekp.errors import DataError
from eval.ground_truth import GroundTruth
from eval.metrics import measurable
from eval.metrics.nme import nme_metrics, weighted_nme
from eval.metrics.pck import pck_metrics, weighted_pck
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
    np.testing.assert_allclose(weighted_pck(scored)(np.array([[1.0, 1.0], [2.0, 0.0]])), [31 / 33, 15 / 16])


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
    np.testing.assert_allclose(weighted_nme(scored)(np.array([[1.0, 3.0]])), [(0.05 + 3 * 0.09) / 4])


def test_a_face_without_both_eye_corners_has_no_nme(toy_truth: Callable[..., GroundTruth]) -> None:
    def hide_a_corner(document: dict[str, Any]) -> None:
        document["annotations"][0]["keypoints"][3 * 36 + 2] = 0

    truth = toy_truth("ibug68", n_images=2, change=hide_a_corner)
    corner_px = np.linalg.norm(truth.true_xy[1, 36] - truth.true_xy[1, 45])
    scored = lay_beside(truth, exact(truth, {(0, 5): 40.0, (1, 5): 6.8}))
    assert nme_metrics(scored)["nme"] == pytest.approx(6.8 / 68 / corner_px)


def test_nme_with_a_missing_prediction_is_undefined(faces: GroundTruth) -> None:
    scored: Scored = lay_beside(faces, exact(faces)[1:])
    with pytest.raises(DataError, match="1 of 2 instances have no prediction"):
        nme_metrics(scored)
    assert measurable(scored, ("nme", "pck")) == ("pck",)


def test_bodies_have_no_nme(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth(n_images=2)
    with pytest.raises(DataError, match="no normaliser"):
        nme_metrics(lay_beside(truth, exact(truth)))
