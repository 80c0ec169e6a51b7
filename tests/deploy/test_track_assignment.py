"""Boxes around keypoints, and who is taken for whom, against slow definitions and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.people.assignment import LEAST_SIGMA, assign, first_seen, similarity
from deploy.runtime.people.people import read_people
from deploy.runtime.people.person_box import boxes_around, containment, is_usable, overlap, shrunk_slowly
from edgekp.nms import oks_nms
from edgekp.sample import Prediction
from edgekp.skeletons import COCO17, LSP14
from tests.deploy.walkers import keypoints

SIGMAS = COCO17.sigma_array


def test_overlap_and_containment_count_the_pixels_that_boxes_share() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.concatenate([rng.integers(0, 20, (12, 2)), rng.integers(1, 20, (12, 2))], 1) for _ in range(2))
    masks = np.zeros((2, 12, 40, 40), dtype=np.bool_)
    for side, boxes in enumerate((first, second)):
        for row, (x, y, w, h) in enumerate(boxes.tolist()):
            masks[side, row, y:y + h, x:x + w] = True
    shared = (masks[0][:, None] & masks[1]).sum((2, 3))
    united = (masks[0][:, None] | masks[1]).sum((2, 3))
    smaller = np.minimum(masks[0].sum((1, 2))[:, None], masks[1].sum((1, 2)))
    np.testing.assert_allclose(overlap(first.astype(float), second.astype(float)), shared / united)
    np.testing.assert_allclose(containment(first.astype(float), second.astype(float)), shared / smaller)


def test_boxes_without_an_area_overlap_nothing() -> None:
    point = np.array([[5.0, 5, 0, 0]])
    assert overlap(point, point).tolist() == [[0.0]]
    assert containment(point, point).tolist() == [[0.0]]
    assert is_usable(point, (480, 640)).tolist() == [False]


def test_only_sure_keypoints_span_a_box() -> None:
    xy = np.array([[[10.0, 10], [50, 30], [9999, 9999]]])
    np.testing.assert_allclose(boxes_around(xy, np.array([[True, True, False]]), 0.1), [[6, 6, 48, 28]])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_box_that_shrinks_slowly_holds_the_new_one_and_lies_in_both_together(seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    before, now = (np.concatenate([rng.uniform(0, 50, (3, 2)), rng.uniform(1, 50, (3, 2))], 1) for _ in range(2))
    slow = shrunk_slowly(before, now, np.full((3, 1), weight))
    assert (containment(slow, now).diagonal() >= 1 - 1e-9).all()
    low, high = np.minimum(before, now)[:, :2], np.maximum(before[:, :2] + before[:, 2:], now[:, :2] + now[:, 2:])
    assert (slow[:, :2] >= low - 1e-9).all()
    assert (slow[:, :2] + slow[:, 2:] <= high + 1e-9).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 6), st.integers(0, 6))
def test_greedy_pairs_are_worth_at_least_half_of_the_best(seed: int, rows: int, columns: int) -> None:
    """What greedy can lose against the exact assignment (a maximal matching by weight is a half approximation)."""
    optimize = pytest.importorskip("scipy.optimize", reason="compares with scipy's exact assignment")
    alike = np.random.default_rng(seed).uniform(0, 1, (rows, columns))
    chosen, partner = assign(alike, 0.0)
    assert len(set(chosen.tolist())) == len(set(partner.tolist())) == len(chosen) == min(rows, columns)
    best = alike[optimize.linear_sum_assignment(alike, maximize=True)].sum()
    assert best / 2 - 1e-9 <= alike[chosen, partner].sum() <= best + 1e-9


def test_greedy_is_exact_for_people_in_a_crowd_who_move_by_less_than_they_are_apart() -> None:
    """Fifty people a quarter of their height apart, moved by 4 % of it, with keypoints 2 % off."""
    optimize = pytest.importorskip("scipy.optimize", reason="compares with scipy's exact assignment")
    rng = np.random.default_rng(1)
    before = [keypoints(25 * (number % 10), 30 * (number // 10), 100) for number in range(50)]
    after = [xy + rng.normal(0, 4, 2) + rng.normal(0, 2, xy.shape) for xy in before]
    first, second = (read_people([Prediction(xy, np.ones(17)) for xy in people], None, 17, 0.3, 0.1)
                     for people in (before, after))
    alike = similarity(first, second, SIGMAS)
    exact = optimize.linear_sum_assignment(alike, maximize=True)
    np.testing.assert_array_equal(assign(alike, 0.2), exact)
    np.testing.assert_array_equal(exact[1], np.arange(50))


def test_less_alike_than_asked_for_is_no_pair() -> None:
    rows, columns = assign(np.array([[0.9, 0.5], [0.8, 0.1]]), 0.2)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
    assert [part.tolist() for part in assign(np.zeros((0, 3)), 0.0)] == [[], []]


def test_boxes_alone_are_compared_where_few_keypoints_are_sure() -> None:
    xy, few = keypoints(100), np.where(np.arange(17) < 2, 1.0, 0.0)
    looked_at = np.array([[50.0, 50, 100, 200]])
    one, other = (read_people([Prediction(xy + shift, few)], looked_at, 17, 0.3, 0.1) for shift in (0, 90))
    assert similarity(one, other, SIGMAS)[0, 0] == 1.0


def test_who_is_seen_twice_is_who_oks_nms_removes() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        xy = [keypoints(x, 100, 150) + rng.normal(0, 2, (17, 2)) for x in rng.uniform(0, 80, 8)]
        people = read_people([Prediction(each, np.ones(17)) for each in xy], None, 17, 0.3, 0.1)
        side_px = people.boxes_xywh[:, 3]
        people_of_one_size = people.boxes_xywh.copy()
        people_of_one_size[:, 3] = side_px.mean()
        same_size = type(people)(people.keypoints_xy, people.sure, people_of_one_size, people.scores)
        kept = oks_nms(people.keypoints_xy, people.sure, -np.arange(8.0), np.full(8, side_px.mean() ** 2),
                       np.maximum(SIGMAS, LEAST_SIGMA), 0.9)
        np.testing.assert_array_equal(np.flatnonzero(first_seen(same_size, SIGMAS, 0.9)), kept)


def test_a_person_half_in_view_is_not_doubted_for_it() -> None:
    half = Prediction(keypoints(100), np.where(np.arange(17) < 9, 0.8, 0.05))
    whole = Prediction(keypoints(100), np.full(17, 0.8))
    people = read_people([half, whole], None, 17, 0.3, 0.1)
    np.testing.assert_allclose(people.scores, [0.8, 0.8])
    assert (people.boxes_xywh[0, 3], people.boxes_xywh[1, 3]) == pytest.approx((0.34 * 200 * 1 + 2 * 6.8, 240), abs=1)


def test_nobody_is_read_as_nobody() -> None:
    people = read_people([], None, len(LSP14), 0.3, 0.1)
    assert len(people) == 0
    assert people.keypoints_xy.shape == (0, 14, 2)
    assert similarity(people, people, LSP14.sigma_array).shape == (0, 0)
