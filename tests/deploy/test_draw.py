"""What is drawn on a frame, by looking at its pixels."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deploy.runtime.loop.draw import (
    LEFT,
    NEITHER,
    RIGHT,
    WIDEST,
    draw_people,
    line_width,
)
from deploy.runtime.people.track import Person
from edgekp.errors import CameraError
from edgekp.sample import Float, Image, Prediction
from edgekp.skeletons import COCO17, IBUG68, SKELETONS, Skeleton
from tests.deploy.walkers import keypoints

LEAST_SCORE = 0.3


def canvas(h: int = 480, w: int = 640) -> Image:
    return np.full((h, w, 3), 90, np.uint8)


def somebody(xy: Float, scores: Float | float = 0.9, identity: int = 7, side_px: float = 240) -> Person:
    prediction = Prediction(xy, np.broadcast_to(np.asarray(scores), xy.shape[:1]))
    return Person(identity, prediction, np.array([5.0, 300, side_px / 2, side_px]), 0.9)


def drawn(*people: Person, skeleton: Skeleton = COCO17, on: Image | None = None) -> Image:
    bgr = canvas() if on is None else on
    draw_people(bgr, people, skeleton, LEAST_SCORE)
    return bgr


def color_between(bgr: Image, xy: Float, first: str, second: str) -> tuple[int, ...]:
    """The pixel halfway between two keypoints."""
    middle = (xy[COCO17.keypoints.index(first)] + xy[COCO17.keypoints.index(second)]) / 2
    x, y = middle.round().astype(int)
    return tuple(int(value) for value in bgr[y, x])


def test_left_and_right_and_what_is_neither_have_their_colours() -> None:
    xy = keypoints(320, 60, 380)
    bgr = drawn(somebody(xy))
    assert color_between(bgr, xy, "left_knee", "left_ankle") == LEFT
    assert color_between(bgr, xy, "right_elbow", "right_wrist") == RIGHT
    assert color_between(bgr, xy, "left_hip", "right_hip") == NEITHER


def test_the_colours_differ_in_lightness_or_between_blue_and_yellow_which_colour_blind_eyes_tell_apart() -> None:
    def lightness_and_blue(bgr: tuple[int, int, int]) -> Float:
        blue, green, red = bgr
        return np.array([0.07 * blue + 0.72 * green + 0.21 * red, blue - (red + green) / 2])

    for one, other in ((LEFT, RIGHT), (LEFT, NEITHER), (RIGHT, NEITHER)):
        assert np.abs(lightness_and_blue(one) - lightness_and_blue(other)).max() > 50


@pytest.mark.parametrize("gone", [0.0, 0.2, np.nan])
def test_a_keypoint_below_the_score_is_left_out_with_its_limbs_and_nothing_else(gone: float) -> None:
    xy, scores = keypoints(320, 60, 380), np.full(17, 0.9)
    wrist = COCO17.keypoints.index("left_wrist")
    scores[wrist] = gone
    bgr = drawn(somebody(xy, scores))
    x, y = xy[wrist].round().astype(int)
    assert (bgr[y - 3:y + 4, x - 3:x + 4] == 90).all()
    assert color_between(bgr, xy, "left_elbow", "left_wrist") == (90, 90, 90)
    assert color_between(bgr, xy, "left_shoulder", "left_elbow") == LEFT


def test_where_no_score_is_asked_for_a_score_of_zero_is_still_missing() -> None:
    bgr = canvas()
    draw_people(bgr, [somebody(keypoints(320, 60, 200), 0.0)], COCO17, 0.0)
    assert (bgr[50:280] == 90).all()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e300, -1e9, 3e9])
def test_broken_and_far_coordinates_hurt_neither_the_frame_nor_the_rest_of_the_person(broken: float) -> None:
    xy = keypoints(320, 60, 380)
    xy[COCO17.keypoints.index("left_ankle")] = broken
    person = somebody(xy)
    bgr = drawn(replace(person, bbox_xywh=np.array([broken, 5, 50, broken])))
    np.testing.assert_allclose(color_between(bgr, xy, "right_elbow", "right_wrist"), RIGHT, atol=40)  # may be thin


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (17, 2), elements=st.floats(width=64)), arrays(np.float64, 17, elements=st.floats(width=32)),
       arrays(np.float64, 4, elements=st.floats(width=64)))
def test_anything_can_be_drawn(xy: Float, scores: Float, bbox_xywh: Float) -> None:
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        drawn(replace(somebody(xy, scores), bbox_xywh=bbox_xywh), on=canvas(60, 80))


def test_nobody_changes_nothing() -> None:
    assert (drawn() == 90).all()


def test_people_drawn_together_look_as_drawn_one_by_one() -> None:
    """Where they do not cover each other; of different sizes, so that lines of different widths are told apart."""
    people = [somebody(keypoints(100, 20, 150), side_px=180), somebody(keypoints(400, 20, 440), side_px=528)]
    together, one_by_one = drawn(*people), canvas()
    for person in people:
        drawn(person, on=one_by_one)
    np.testing.assert_array_equal(together, one_by_one)


def test_lines_grow_with_the_person_and_stay_thin_on_faces() -> None:
    widths = [line_width(np.array([0.0, 0, 50, side]), 17) for side in (20, 180, 400, 5000)]
    assert widths == [1, 2, 4, WIDEST]
    assert line_width(np.array([0.0, 0, 50, 5000]), 68) == 1
    near, far = (drawn(somebody(keypoints(320, 60, 300), side_px=side)) for side in (500, 100))
    assert np.count_nonzero((near != 90).any(-1)) > 1.5 * np.count_nonzero((far != 90).any(-1))


def test_the_identity_is_written_at_the_box_and_stays_readable_at_the_edge() -> None:
    nothing_sure = np.zeros(17)
    unseen = replace(somebody(keypoints(320), nothing_sure), identity=12)
    inked = [np.argwhere((drawn(replace(unseen, bbox_xywh=np.array([*at, 100.0, 200]))) > 150).all(-1))
             for at in ((300.0, 200.0), (-50.0, -80.0))]
    assert (np.abs(inked[0].mean(0) - (200, 300)) < 25).all()
    assert len(inked[1]) > 5


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_every_skeleton_can_be_drawn_with_every_keypoint_on_it(skeleton: Skeleton) -> None:
    xy = np.random.default_rng(0).uniform((20, 20), (620, 460), (len(skeleton), 2))
    bgr = drawn(somebody(xy), skeleton=skeleton)
    for x, y in xy.round().astype(int):
        assert (bgr[y, x] != 90).any()


@pytest.mark.parametrize("wrong", [np.zeros((48, 64, 3), np.float32), np.zeros((48, 64), np.uint8),
                                   np.zeros((48, 64, 4), np.uint8), np.zeros((48, 64, 3), np.uint16)])
def test_a_frame_that_is_not_bgr_is_refused(wrong: Image) -> None:
    with pytest.raises(CameraError, match=r"expected uint8 \[height, width, 3\]"):
        draw_people(wrong, [], COCO17, 0.3)


@pytest.mark.parametrize(("skeleton", "sides"), [(COCO17, 240), (IBUG68, 100)])
def test_five_people_are_drawn_in_a_few_milliseconds(skeleton: Skeleton, sides: float) -> None:
    """3 ms on an idle core; the bound is for a busy one."""
    rng, least_ms, bgr = np.random.default_rng(0), np.inf, canvas()
    people = [somebody(rng.uniform((50, 50), (50 + sides, 50 + sides), (len(skeleton), 2)) + (70 * number, 0),
                       identity=number, side_px=sides) for number in range(5)]
    for _ in range(10):
        start = perf_counter()
        draw_people(bgr, people, skeleton, LEAST_SCORE)
        least_ms = min(least_ms, 1e3 * (perf_counter() - start))
    assert least_ms < 10
