"""The One Euro filter against its definition, and what it promises: calm at rest, quick in motion, at any scale."""

from __future__ import annotations

from math import hypot, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.people.smoothing import Filtered, OneEuro
from edgekp.errors import RecipeError
from edgekp.sample import Bool, Float

SIDE_PX = 400.0
FPS = 30


def filtered(xy: Float, settings: OneEuro, side_px: float = SIDE_PX, fps: float = FPS, sure: Bool | None = None,
             times_s: Float | None = None) -> Float:
    """(T, K, 2) what the filter makes of the keypoints of one person in T frames."""
    state, rows = Filtered.nothing(1, xy.shape[1]), []
    sure = np.ones(xy.shape[:2], dtype=np.bool_) if sure is None else sure
    times_s = np.arange(len(xy)) / fps if times_s is None else times_s
    for frame, time_s in enumerate(times_s.tolist()):
        state = settings.step(state, xy[frame][None], sure[frame][None], np.array([side_px]), time_s)
        rows.append(state.keypoints_xy[0])
    return np.array(rows)


def by_definition(xy: Float, settings: OneEuro, side_px: float, times_s: Float) -> Float:
    """One keypoint (T, 2), number by number, after the paper's algorithm 1."""
    def alpha(cutoff_hz: float, elapsed_s: float) -> float:
        return 1 / (1 + 1 / (2 * pi * cutoff_hz) / elapsed_s)

    x, y = xy[0]
    speed_x = speed_y = 0.0
    rows = [(x, y)]
    for frame in range(1, len(xy)):
        elapsed_s = times_s[frame] - times_s[frame - 1]
        a = alpha(settings.speed_cutoff_hz, elapsed_s)
        speed_x = a * (xy[frame, 0] - x) / elapsed_s + (1 - a) * speed_x
        speed_y = a * (xy[frame, 1] - y) / elapsed_s + (1 - a) * speed_y
        a = alpha(settings.cutoff_hz + settings.response_hz * hypot(speed_x, speed_y) / side_px, elapsed_s)
        x, y = a * xy[frame, 0] + (1 - a) * x, a * xy[frame, 1] + (1 - a) * y
        rows.append((x, y))
    return np.array(rows)


def test_every_keypoint_is_filtered_as_the_paper_defines_it() -> None:
    rng, of = np.random.default_rng(0), OneEuro(0.7, 4.0, 1.5)
    xy = np.cumsum(rng.normal(0, 8, (40, 3, 2)), 0)
    times_s = np.cumsum(rng.uniform(0.01, 0.1, 40))
    smooth = filtered(xy, of, times_s=times_s)
    for keypoint in range(3):
        np.testing.assert_allclose(smooth[:, keypoint], by_definition(xy[:, keypoint], of, SIDE_PX, times_s))


def test_at_rest_the_jitter_falls_to_a_fifth() -> None:
    """The docstring's figure, 0.18, for an error of 0.5 % of the box."""
    noise = np.random.default_rng(1).normal(0, 0.005 * SIDE_PX, (600, 40, 2))
    smooth = filtered(200 + noise, OneEuro())
    assert np.diff(smooth[60:], axis=0).std() == pytest.approx(0.18 * np.diff(noise[60:], axis=0).std(), rel=0.05)
    assert (smooth[60:] - 200).std() == pytest.approx(0.39 * noise[60:].std(), rel=0.05)


@pytest.mark.parametrize(("sides_a_second", "late_ms"), [(0.1, 46), (1.0, 11), (2.0, 6)])
def test_the_faster_a_keypoint_moves_the_less_it_is_late(sides_a_second: float, late_ms: float) -> None:
    speed = sides_a_second * SIDE_PX
    true = np.zeros((300, 40, 2))
    true[..., 0] = (speed * np.arange(300) / FPS)[:, None]
    noise = np.random.default_rng(2).normal(0, 0.005 * SIDE_PX, true.shape)
    behind_px = (true - filtered(true + noise, OneEuro()))[200:, :, 0].mean()
    assert 1e3 * behind_px / speed == pytest.approx(late_ms, abs=2)


@pytest.mark.parametrize("scale", [0.1, 4.0])
def test_the_settings_hold_for_any_resolution(scale: float) -> None:
    xy = np.cumsum(np.random.default_rng(3).normal(0, 5, (50, 4, 2)), 0)
    np.testing.assert_allclose(filtered(scale * xy, OneEuro(), scale * SIDE_PX), scale * filtered(xy, OneEuro()))


def test_turning_the_camera_turns_what_the_filter_says() -> None:
    xy = np.cumsum(np.random.default_rng(4).normal(0, 5, (50, 4, 2)), 0)
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    np.testing.assert_allclose(filtered(xy @ turn, OneEuro()), filtered(xy, OneEuro()) @ turn)


def test_half_the_frame_rate_is_late_by_about_as_much() -> None:
    """By 21 % more, as the paper's speed is that from the last smoothed value; who counted frames would be by 100 %."""
    true = np.zeros((600, 1, 2))
    true[:, 0, 0] = 0.5 * SIDE_PX * np.arange(600) / 60
    late = [(true[::every] - filtered(true[::every], OneEuro(), fps=60 / every))[-1, 0, 0] for every in (1, 2)]
    assert late[1] == pytest.approx(late[0], rel=0.25)


def test_a_keypoint_that_is_unsure_drags_nobody_and_is_not_dragged() -> None:
    rng = np.random.default_rng(5)
    xy = 200 + rng.normal(0, 2, (60, 2, 2))
    sure = np.ones((60, 2), dtype=np.bool_)
    sure[20:30, 0] = False
    wild = xy.copy()
    wild[20:30, 0] = np.where(rng.random((10, 1)) < 0.5, np.nan, 9999.0)
    smooth = filtered(wild, OneEuro(), sure=sure)
    assert np.abs(smooth - 200).max() < 10
    np.testing.assert_array_equal(smooth[:, 1], filtered(xy, OneEuro())[:, 1])
    np.testing.assert_array_equal(smooth[20:30, 0], np.tile(smooth[19, 0], (10, 1)))


def test_after_a_long_absence_the_past_hardly_counts() -> None:
    """After 10 s the share of a new value is at least 2 pi 10 / (2 pi 10 + 1) = 0.984."""
    xy = np.array([[[100.0, 100]], [[300.0, 100]]])
    assert filtered(xy, OneEuro(), times_s=np.array([0.0, 10.0]))[1, 0, 0] > 100 + 0.984 * 200


def test_a_keypoint_that_was_never_sure_begins_where_it_is_first_seen() -> None:
    xy = np.array([[[900.0, 900]], [[300.0, 100]]])
    sure = np.array([[False], [True]])
    np.testing.assert_array_equal(filtered(xy, OneEuro(), sure=sure)[1, 0], [300, 100])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=12), st.floats(0, 1), st.floats(0.01, 50), st.floats(0, 100))
def test_the_filter_never_leaves_the_range_of_what_was_measured(xs: list[float], step_s: float, cutoff_hz: float,
                                                                response_hz: float) -> None:
    xy = np.array([[[x, -x]] for x in xs])
    smooth = filtered(xy, OneEuro(cutoff_hz, response_hz), times_s=step_s * np.arange(len(xs)))
    assert np.isfinite(smooth).all()
    assert smooth.min() >= xy.min() - 1e-6
    assert smooth.max() <= xy.max() + 1e-6


@pytest.mark.parametrize("wrong", [{"cutoff_hz": 0.0}, {"response_hz": -1.0}, {"speed_cutoff_hz": 0.0},
                                   {"cutoff_hz": float("nan")}])
def test_settings_that_filter_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="expected frequencies above 0"):
        OneEuro(**wrong)
