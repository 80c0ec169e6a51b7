"""Which boxes the network is shown, by policy, with a detector that says what a test tells it to."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.runtime.frame import Frame
from deploy.runtime.people.find_people import PeopleFinder, with_newcomers
from deploy.runtime.people.steady_boxes import on_grid
from deploy.runtime.people.track import Tracker
from edgekp.errors import RecipeError
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17
from tests.deploy.walkers import FRAME_HW, person

WHOLE = [[0, 0, 640, 480]]
FIRST, SECOND = [80.0, 60, 120, 280], [400.0, 60, 120, 280]


class Detector:
    """Says the same boxes each time, and counts how often it was asked."""

    def __init__(self, *boxes: list[float]) -> None:
        self.boxes, self.asked = np.array(boxes).reshape(-1, 4), 0

    def __call__(self, bgr: Image) -> Float:
        self.asked += 1
        return self.boxes


def frame(number: int = 0) -> Frame:
    return Frame(np.zeros((*FRAME_HW, 3), np.uint8), number, number / 30, 0.0)


def tracker(most_people: int = 5) -> Tracker:
    return Tracker(COCO17, most_people=most_people, score=0.3)


def test_the_whole_frame_is_one_box_whoever_is_followed() -> None:
    of = tracker()
    finder = PeopleFinder("frame", of, most_people=1)
    of.update([person(300)], None, 0, FRAME_HW)
    np.testing.assert_array_equal(finder.boxes(frame()), WHOLE)


def test_without_a_detector_the_whole_frame_is_looked_at_until_somebody_is_there() -> None:
    of = tracker()
    finder = PeopleFinder("track", of, most_people=5)
    np.testing.assert_array_equal(finder.boxes(frame(0)), WHOLE)
    of.update([person(300)], np.array(WHOLE), 0, FRAME_HW)
    np.testing.assert_array_equal(finder.boxes(frame(1)), on_grid(of.expected_xywh(1 / 30, FRAME_HW)))
    for number in range(1, 20):  # somebody unseen is kept for half a second
        of.update([], finder.boxes(frame(number)), number / 30, FRAME_HW)
    np.testing.assert_array_equal(finder.boxes(frame(20)), WHOLE)


def test_a_detector_is_asked_while_nobody_is_there_and_then_now_and_again_for_newcomers() -> None:
    of, detector = tracker(), Detector([244.0, 80, 112, 240], SECOND)
    finder = PeopleFinder("track", of, detector, most_people=5, detect_every=4)
    np.testing.assert_array_equal(finder.boxes(frame(0)), on_grid(detector.boxes))
    of.update([person(300)], None, 0, FRAME_HW)
    shown = []
    for number in range(1, 9):
        shown.append(len(finder.boxes(frame(number))))
        of.update([person(300)], None, number / 30, FRAME_HW)
    assert shown == [1, 1, 1, 2, 1, 1, 1, 2]
    assert detector.asked == 3


def test_when_the_detector_finds_nobody_nothing_is_looked_at() -> None:
    finder = PeopleFinder("track", tracker(), Detector(), most_people=5)
    assert finder.boxes(frame()).shape == (0, 4)
    assert PeopleFinder("detect", tracker(), Detector(), most_people=5).boxes(frame()).shape == (0, 4)


def test_the_detector_alone_is_asked_each_frame_and_the_surest_are_looked_at() -> None:
    of, detector = tracker(), Detector(FIRST, SECOND)
    finder = PeopleFinder("detect", of, detector, most_people=1)
    for number in range(3):
        np.testing.assert_array_equal(finder.boxes(frame(number)), on_grid(np.array([FIRST])))
        of.update([person(140)], None, number / 30, FRAME_HW)
    assert detector.asked == 3


def test_those_who_are_followed_come_before_newcomers_when_there_are_too_many() -> None:
    of = tracker(2)
    of.update([person(300), person(560)], None, 0, FRAME_HW)
    finder = PeopleFinder("track", of, Detector(FIRST), most_people=2, detect_every=1)
    np.testing.assert_array_equal(finder.boxes(frame(1)), on_grid(of.expected_xywh(1 / 30, FRAME_HW)))


@pytest.mark.parametrize(("detected", "is_new"), [
    (SECOND, True),
    (FIRST, False),
    ([90.0, 70, 120, 280], False),  # a little beside
    ([80.0, 60, 120, 140], False),  # the upper half of the same person
    ([40.0, 20, 200, 400], False),  # of which the tracked box is the sure part
    ([180.0, 60, 120, 280], True),  # next to each other, a sixth in common
])
def test_a_box_of_somebody_followed_is_not_looked_at_twice(detected: list[float], is_new: bool) -> None:
    assert len(with_newcomers(np.array([FIRST]), np.array([detected]))) == 1 + is_new


def test_nobody_with_nobody_is_nobody() -> None:
    assert with_newcomers(np.empty((0, 4)), np.empty((0, 4))).shape == (0, 4)


def test_an_unknown_policy_and_a_missing_detector_are_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'track'"):
        PeopleFinder("trak", tracker(), most_people=1)
    with pytest.raises(RecipeError, match="there is none"):
        PeopleFinder("detect", tracker(), most_people=1)
