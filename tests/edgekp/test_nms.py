"""Suppression of doubles: equal to mmpose, and right where people are behind each other or lack keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.nms import oks_nms, pairwise_oks, soft_oks_nms
from edgekp.sample import Bool, Float
from edgekp.skeletons import COCO17

SIGMAS = COCO17.sigma_array


@pytest.fixture
def oracle(real_data: Path) -> Any:
    return np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")


def predictions(oracle: Any) -> tuple[Float, Bool, Float, Float]:
    xy = oracle["oksnms/keypoints"][..., :2]
    return xy, np.ones(xy.shape[:2], dtype=np.bool_), oracle["oksnms/score"], oracle["oksnms/area"]


def crowd(rng: np.random.Generator, n: int) -> tuple[Float, Bool, Float, Float]:
    """Two predictions of each of n / 2 people who are far apart: their own, and one that is 2 pixels off."""
    people = rng.uniform(0, 100, (n // 2, 17, 2)) + 1000 * np.arange(n // 2)[:, None, None]
    xy = np.concatenate([people, people + [2, 0]])
    return xy, np.ones((n, 17), dtype=np.bool_), rng.permutation(n) / n, np.full(n, 5000.0)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_what_is_kept_equals_mmpose(oracle: Any, threshold: float) -> None:
    kept = oks_nms(*predictions(oracle), SIGMAS, threshold)
    np.testing.assert_array_equal(kept, oracle[f"oksnms/keep_thr{threshold}"])


def test_the_soft_order_equals_mmpose(oracle: Any) -> None:
    kept, _ = soft_oks_nms(*predictions(oracle), SIGMAS, 0.9)
    np.testing.assert_array_equal(kept, oracle["oksnms/soft_keep_thr0.9_max20"])


def test_the_similarity_of_two_predictions_equals_mmpose(oracle: Any) -> None:
    """With the mean of both areas; mmpose keeps float32, so that 6 digits agree."""
    people = np.concatenate([oracle["oks/g"][None], oracle["oks/d"]]).reshape(-1, 17, 3)[..., :2]
    areas = np.append(oracle["oks/area_g"], oracle["oks/area_d"])
    alike = pairwise_oks(people, np.ones((7, 17), dtype=np.bool_), areas, SIGMAS)
    np.testing.assert_allclose(alike[0, 1:], oracle["oks/iou"], rtol=1e-6)
    np.testing.assert_array_equal(alike, alike.T)
    np.testing.assert_array_equal(np.diag(alike), 1)


def test_of_two_predictions_of_a_person_the_better_one_stays(rng: np.random.Generator) -> None:
    xy, found, scores, areas = crowd(rng, 20)
    kept = oks_nms(xy, found, scores, areas, SIGMAS, 0.5)
    better = np.where(scores[:10] > scores[10:], np.arange(10), np.arange(10, 20))
    np.testing.assert_array_equal(kept, sorted(better, key=lambda which: -scores[which]))


def test_soft_suppression_keeps_all_and_lowers_only_doubles(rng: np.random.Generator) -> None:
    xy, found, scores, areas = crowd(rng, 10)
    kept, lowered = soft_oks_nms(xy, found, scores, areas, SIGMAS, 0.9)
    assert sorted(kept) == list(range(10))
    assert (np.diff(lowered) <= 0).all()
    partner = (np.arange(10) + 5) % 10
    is_double = scores < scores[partner]
    factor = np.exp(-(pairwise_oks(xy, found, areas, SIGMAS)[np.arange(10), partner] ** 2) / 0.9)
    np.testing.assert_allclose(lowered, np.where(is_double, scores * factor, scores)[kept], rtol=1e-12)


def test_soft_suppression_stops_at_the_most_wanted(rng: np.random.Generator) -> None:
    everyone = crowd(rng, 10)
    kept, lowered = soft_oks_nms(*everyone, SIGMAS, most=3)
    all_kept, all_lowered = soft_oks_nms(*everyone, SIGMAS)
    np.testing.assert_array_equal(kept, all_kept[:3])
    np.testing.assert_array_equal(lowered, all_lowered[:3])


def test_only_keypoints_that_both_have_are_compared() -> None:
    """The second has the lower half of the first's keypoints; the third the other half, so it is somebody else."""
    xy = np.random.default_rng(0).uniform(0, 100, (17, 2))
    found = np.ones((3, 17), dtype=np.bool_)
    found[1, :8] = found[2, 8:] = False
    positions = np.where(found[..., None], xy, np.nan)  # what is not found has no position
    areas = np.full(3, 2000.0)
    np.testing.assert_allclose(pairwise_oks(positions, found, areas, SIGMAS), [[1, 1, 1], [1, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(oks_nms(positions, found, np.array([0.5, 0.9, 0.8]), areas, SIGMAS), [1, 2])


def test_similarity_at_the_threshold_is_no_double() -> None:
    xy = np.zeros((2, 17, 2))
    args = xy, np.ones((2, 17), dtype=np.bool_), np.array([0.1, 0.2]), np.ones(2), SIGMAS
    assert oks_nms(*args, threshold=1.0).tolist() == [1, 0]
    assert oks_nms(*args, threshold=0.999).tolist() == [1]


def test_ties_go_to_the_lower_index_and_nan_comes_last() -> None:
    xy = 1000.0 * np.arange(4)[:, None, None] + np.zeros((4, 17, 2))
    found, areas = np.ones((4, 17), dtype=np.bool_), np.ones(4)
    scores = np.array([np.nan, 0.5, 0.9, 0.5])
    assert oks_nms(xy, found, scores, areas, SIGMAS).tolist() == [2, 1, 3, 0]
    assert soft_oks_nms(xy, found, scores, areas, SIGMAS)[0].tolist() == [2, 1, 3, 0]


def test_a_position_that_is_not_finite_neither_suppresses_nor_is_suppressed() -> None:
    xy = np.full((2, 17, 2), np.nan)
    found, scores, areas = np.ones((2, 17), dtype=np.bool_), np.array([0.9, 0.5]), np.ones(2)
    assert oks_nms(xy, found, scores, areas, SIGMAS).tolist() == [0, 1]


def test_nobody_leaves_nobody() -> None:
    nobody = np.zeros((0, 17, 2)), np.zeros((0, 17), dtype=np.bool_), np.zeros(0), np.zeros(0), SIGMAS
    assert len(oks_nms(*nobody)) == 0
    assert [len(array) for array in soft_oks_nms(*nobody)] == [0, 0]
