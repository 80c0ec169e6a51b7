"""Identities of drawn people who walk, cross, hide, leave and come back."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.people.smoothing import OneEuro
from deploy.runtime.people.track import Person, Tracker
from edgekp.sample import Float, Prediction
from edgekp.skeletons import COCO17, IBUG68
from tests.deploy.walkers import FRAME_HW, keypoints, person

FPS = 30
HEIGHT = 200


def tracker(most_people: int = 5, smoothing: OneEuro | None = None) -> Tracker:
    return Tracker(COCO17, most_people=most_people, score=0.3, smoothing=smoothing)


def update(of: Tracker, people: list[Prediction], time_s: float) -> list[Person]:
    return of.update(people, None, time_s, FRAME_HW)


def identities(people: list[Person]) -> list[int]:
    return [somebody.identity for somebody in people]


def nearest(people: list[Person], x: float) -> int:
    """Identity of whoever stands at x."""
    return min(people, key=lambda one: abs(one.prediction.keypoints_xy[:, 0].mean() - x)).identity


@pytest.mark.parametrize("smoothing", [None, OneEuro()])
def test_somebody_who_walks_stays_who_they_are(smoothing: OneEuro | None) -> None:
    of, rng = tracker(smoothing=smoothing), np.random.default_rng(0)
    for frame in range(60):
        noisy = person(100 + 5 * frame)
        noisy = replace(noisy, keypoints_xy=noisy.keypoints_xy + rng.normal(0, 3, (17, 2)))
        assert identities(update(of, [noisy], frame / FPS)) == [1]


@pytest.mark.parametrize("apart_px", [0, 10, 40])
@pytest.mark.parametrize("speed", [40, 120, 400])
def test_two_who_cross_keep_their_identities_however_close_they_pass(apart_px: float, speed: float) -> None:
    """Both are seen all the while, in any order, with noise of 1 % of their height."""
    of, rng = tracker(), np.random.default_rng(1)
    frames = round(300 / speed * FPS)
    for frame in range(frames + 1):
        time_s, steps = frame / FPS, speed * frame / FPS
        at = [(170 + steps, 100), (470 - steps, 100 + apart_px)]
        people = [Prediction(keypoints(*xy) + rng.normal(0, 0.01 * HEIGHT, (17, 2)), np.full(17, 0.9)) for xy in at]
        seen = update(of, people if frame == 0 or rng.random() < 0.5 else people[::-1], time_s)
    assert len(seen) == 2
    assert (nearest(seen, 470), nearest(seen, 170)) == (1, 2)


@pytest.mark.parametrize("hidden_frames", [1, 5, 12])
def test_somebody_hidden_by_another_who_crosses_is_found_behind(hidden_frames: int) -> None:
    """While the one behind cannot be seen, the network shows whoever is in front twice."""
    of, speed = tracker(), 120
    for frame in range(76):
        steps = speed * frame / FPS
        in_front, behind = person(170 + steps), person(470 - steps, 110)
        is_hidden = abs(frame - 37.5) <= hidden_frames / 2
        doubled = Prediction(in_front.keypoints_xy + 1, np.full(17, 0.8))
        seen = update(of, [in_front, doubled if is_hidden else behind], frame / FPS)
    assert (nearest(seen, 470), nearest(seen, 170)) == (1, 2)


def test_of_two_tracks_on_one_person_the_newer_is_given_up_after_the_time_to_keep() -> None:
    of = tracker()
    for frame in range(6):
        assert identities(update(of, [person(150), person(300 - 30 * frame)], frame / FPS)) in ([1, 2], [1])
    lost: list[int] = []
    for frame in range(6, 30):
        box_of_each = [person(150), Prediction(keypoints(152), np.full(17, 0.95))]  # the second box scores more
        assert identities(update(of, box_of_each, frame / FPS)) == [1]
        lost += of.lost
    assert lost == [2]
    assert len(of.expected_xywh(1, FRAME_HW)) == 1


def test_two_who_stand_as_close_as_a_fifth_of_their_height_are_two() -> None:
    assert len(update(tracker(), [person(200), person(200 + HEIGHT / 5)], 0)) == 2


def test_somebody_unseen_for_a_moment_is_the_same_and_for_long_somebody_new() -> None:
    of = tracker()
    update(of, [person(200)], 0.0)
    assert update(of, [], 0.4) == []
    assert identities(update(of, [person(205)], 0.5)) == [1]
    update(of, [], 1.01)
    assert of.lost == (1,)
    assert identities(update(of, [person(205)], 1.1)) == [2]


def test_after_dropped_frames_people_are_looked_for_where_their_speed_took_them() -> None:
    of, speed = tracker(), 300.0
    for frame in range(30):
        update(of, [person(50 + speed * frame / FPS)], frame / FPS)
    last = 29 / FPS
    box = of.expected_xywh(last + 0.4, FRAME_HW)[0]
    assert box[0] + box[2] / 2 == pytest.approx(50 + speed * (last + 0.4), abs=1)
    far_on = person(50 + speed * (last + 0.4))
    assert identities(update(of, [far_on], last + 0.4)) == [1]


def test_an_estimate_that_closes_in_on_somebody_is_not_taken_for_motion() -> None:
    of = tracker()
    for frame, height in enumerate((300, 200, 120)):
        update(of, [person(320 - 40 * frame, height=height)], frame / FPS)
    box = of.expected_xywh(2 / FPS + 0.3, FRAME_HW)[0]
    assert box[0] + box[2] / 2 == pytest.approx(240, abs=1)


def test_the_next_box_reaches_a_tenth_of_the_longer_side_beyond_a_body_and_not_beyond_a_face() -> None:
    of = tracker()
    update(of, [person(300, 100, 200)], 0)
    np.testing.assert_allclose(of.expected_xywh(0, FRAME_HW), [[300 - 36 - 20, 100 - 20, 72 + 40, 200 + 40]])
    face = np.random.default_rng(0).uniform((50, 60), (150, 180), (68, 2))
    of = Tracker(IBUG68, most_people=1, score=0.3)
    update(of, [Prediction(face, np.ones(68))], 0)
    np.testing.assert_allclose(of.expected_xywh(0, FRAME_HW), [[*face.min(0), *np.ptp(face, 0)]])


def test_a_box_grows_at_once_and_shrinks_slowly_while_a_keypoint_is_unsure() -> None:
    of, scores = tracker(), np.full(17, 0.9)
    upper = np.where(np.arange(17) < 13, 0.9, 0.1)
    update(of, [Prediction(keypoints(300), scores)], 0)
    whole = of.expected_xywh(0, FRAME_HW)[0]
    update(of, [Prediction(keypoints(300), upper)], 0.1)
    after = of.expected_xywh(0.1, FRAME_HW)[0]
    lower_edge, own_edge = whole[1] + whole[3], 100 + 0.53 * 200 + 0.1 * 0.53 * 200
    assert after[1] + after[3] == pytest.approx(own_edge + np.exp(-0.1 / 0.5) * (lower_edge - own_edge))
    update(of, [Prediction(keypoints(300), scores)], 0.2)
    np.testing.assert_allclose(of.expected_xywh(0.2, FRAME_HW)[0], whole)


def test_with_few_keypoints_the_box_that_was_looked_at_stays() -> None:
    of, head = tracker(), Prediction(keypoints(300), np.where(np.arange(17) < 4, 0.9, 0.1))
    assert len(of.update([head], np.array([[200.0, 80, 200, 240]]), 0, FRAME_HW)) == 1
    np.testing.assert_allclose(of.expected_xywh(0, FRAME_HW), [[200, 80, 200, 240]])


@pytest.mark.parametrize(("scores", "why"), [
    (np.zeros(17), "all scores are zero"),
    (np.full(17, 0.2), "all are below the limit"),
    (np.full(17, np.nan), "no score is a number"),
    (np.where(np.arange(17) < 2, 1.0, 0.0), "two keypoints make no person"),
])
def test_who_is_doubtful_is_nobody(scores: Float, why: str) -> None:
    of = tracker()
    assert update(of, [Prediction(keypoints(300), scores)], 0) == [], why
    assert of.expected_xywh(0, FRAME_HW).shape == (0, 4)


def test_a_score_of_zero_is_nobody_even_without_a_limit() -> None:
    of, looked_at = Tracker(COCO17, most_people=1, score=0.0), np.array([[200.0, 80, 200, 240]])
    assert of.update([Prediction(keypoints(300), np.zeros(17))], looked_at, 0, FRAME_HW) == []
    nearly = Prediction(keypoints(300), np.where(np.arange(17) < 15, 0.001, 0.0))
    of.update([nearly], looked_at, 0.1, FRAME_HW)
    assert of.expected_xywh(0.1, FRAME_HW)[0, 3] < 0.8 * 240  # the ankles, at zero, are not in the box


def test_keypoints_that_are_no_numbers_neither_move_the_box_nor_the_others() -> None:
    xy = keypoints(300)
    xy[15:] = np.nan, np.inf
    of = tracker(smoothing=OneEuro())
    seen = [update(of, [Prediction(xy, np.full(17, 0.9))], frame / FPS) for frame in range(3)]
    assert np.isfinite(of.expected_xywh(0.1, FRAME_HW)).all()
    np.testing.assert_allclose(seen[-1][0].prediction.keypoints_xy[:15], keypoints(300)[:15])
    assert np.isnan(seen[-1][0].prediction.keypoints_xy[15:, 0]).all()


@pytest.mark.parametrize("xy", [keypoints(300, height=5), keypoints(-500), keypoints(300, -2000, 4000)])
def test_a_box_that_drifted_away_is_nobody(xy: Float) -> None:
    """Five pixels high, outside the frame, or more than twice as high as the frame is wide."""
    assert update(tracker(), [Prediction(xy, np.full(17, 0.9))], 0) == []


def test_somebody_who_walks_out_of_the_frame_is_lost_before_the_time_to_keep_is_over() -> None:
    of = tracker()
    for frame in range(10):
        update(of, [person(400 + 25 * frame)], frame / FPS)
    update(of, [], 0.55)
    assert of.lost == (1,)


@pytest.mark.parametrize(("time_s", "frame_hw"), [(0.1, (240, 320)), (-1.0, FRAME_HW), (0.9, FRAME_HW)])
def test_another_size_a_time_before_or_a_long_pause_begins_anew(time_s: float, frame_hw: tuple[int, int]) -> None:
    of = tracker()
    update(of, [person(100)], 0)
    assert of.expected_xywh(time_s, frame_hw).shape == (0, 4)
    seen = of.update([person(100, 20)], None, time_s, frame_hw)
    assert identities(seen) == [2]
    assert of.lost == (1,)


def test_when_there_are_more_people_than_wanted_the_best_are_followed_and_stay() -> None:
    of = tracker(most_people=2)
    crowd = [person(80 + 130 * number, score=score) for number, score in enumerate((0.5, 0.9, 0.7, 0.4))]
    seen = update(of, crowd, 0)
    assert [one.score for one in seen] == pytest.approx([0.9, 0.7])
    better = [replace(crowd[0], scores=np.full(17, 1.0)), *crowd[1:]]
    assert [one.score for one in update(of, better, 0.03)] == pytest.approx([0.9, 0.7])


def test_smoothing_calms_the_keypoints_and_not_the_box() -> None:
    plain, calm, rng = tracker(), tracker(smoothing=OneEuro()), np.random.default_rng(3)
    xs = []
    for frame in range(60):
        noisy = Prediction(keypoints(300) + rng.normal(0, 2, (17, 2)), np.full(17, 0.9))
        rough, smooth = (update(of, [noisy], frame / FPS)[0] for of in (plain, calm))
        np.testing.assert_array_equal(rough.bbox_xywh, smooth.bbox_xywh)
        np.testing.assert_array_equal(rough.prediction.keypoints_xy, noisy.keypoints_xy)
        xs.append((rough.prediction.keypoints_xy, smooth.prediction.keypoints_xy))
    rough_px, smooth_px = np.abs(np.diff(np.array(xs)[10:], axis=0)).mean((0, 2, 3))
    assert smooth_px < 0.3 * rough_px


FRAMES = st.lists(st.lists(st.tuples(st.sampled_from([0, 60, 75, 150, 300, 600, 900]), st.sampled_from([20, 100, 400]),
                                     st.sampled_from([0.0, 0.3, 0.5, 1.0, np.nan]), st.booleans()), max_size=6),
                  min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.sampled_from([0.0, 1 / 30, 0.3, 0.7]), st.sampled_from([None, OneEuro()]))
def test_whatever_is_seen_identities_are_single_and_never_come_back(
        frames: list[list[tuple[float, float, float, bool]]], step_s: float, smoothing: OneEuro | None) -> None:
    of, lost = tracker(most_people=4, smoothing=smoothing), set[int]()
    for number, people in enumerate(frames):
        predictions = [person(x, 50, height, score) for x, height, score, _ in people]
        for prediction, (_, _, _, is_broken) in zip(predictions, people, strict=True):
            prediction.keypoints_xy[5:8] = np.nan if is_broken else prediction.keypoints_xy[5:8]
        boxes_xywh = np.tile([[10.0, 10, 50, 50]], (len(people), 1))
        seen = of.update(predictions, boxes_xywh, number * step_s, FRAME_HW)
        assert len(seen) == len(set(identities(seen))) <= 4
        lost |= set(of.lost)
        assert not lost & set(identities(seen))
        expected_xywh = of.expected_xywh(number * step_s, FRAME_HW)
        assert np.isfinite(expected_xywh).all()
        assert (expected_xywh[:, 2:] >= 0).all()


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_identities_do_not_depend_on_the_resolution(scale: float) -> None:
    rng = np.random.default_rng(5)
    small, large = tracker(smoothing=OneEuro()), tracker(smoothing=OneEuro())
    for frame in range(40):
        people = [person(x + rng.normal(0, 10), 100, 220) for x in (100, 180, 400) if rng.random() < 0.8]
        enlarged = [Prediction(one.keypoints_xy * scale, one.scores) for one in people]
        first = update(small, people, frame / 10)
        second = large.update(enlarged, None, frame / 10, (round(480 * scale), round(640 * scale)))
        assert identities(first) == identities(second)
        for one, other in zip(first, second, strict=True):
            np.testing.assert_allclose(other.prediction.keypoints_xy, scale * one.prediction.keypoints_xy)


def test_fifty_people_are_followed_in_a_few_milliseconds() -> None:
    """2 ms on an idle core; the bound is for a busy one."""
    of, rng = tracker(most_people=50, smoothing=OneEuro()), np.random.default_rng(0)
    places = [(60 + 57 * (number % 10), 10 + 90 * (number // 10)) for number in range(50)]
    least_ms = np.inf
    for frame in range(30):
        people = [Prediction(keypoints(x, y, 80) + rng.normal(0, 1, (17, 2)), np.full(17, 0.9)) for x, y in places]
        start = perf_counter()
        seen = update(of, people, frame / FPS)
        least_ms = min(least_ms, 1e3 * (perf_counter() - start))
    assert identities(seen) == list(range(1, 51))
    assert least_ms < 8
