"""Which boxes of a frame the network is shown, by policy: the whole frame, a detector's, or where people just were.

Knows no network: a detector is any function from a BGR image to boxes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploy.runtime.frame import Frame
from deploy.runtime.people.person_box import containment, overlap
from deploy.runtime.people.steady_boxes import SteadyBoxes
from deploy.runtime.people.track import Tracker
from edgekp.errors import RecipeError, unknown_name
from edgekp.preprocess import frame_xywh
from edgekp.sample import Float, Image

Detect = Callable[[Image], Float]  # (N, 4) boxes xywh of the people in a BGR image, the surest first
POLICIES = ("track", "detect", "frame")
SAME_OVERLAP, SAME_CONTAINMENT = 0.4, 0.8  # from these on, a detector's box is of somebody who is followed already


class PeopleFinder:
    """The boxes to look at next.

    ``track``: those of the people who are followed; while there is nobody, the detector's, or without one the whole
        frame as the box of one person. With a detector, newcomers are looked for every ``detect_every`` frames.
    ``detect``: the detector's on every frame.
    ``frame``: the whole frame as the box of one person.
    """

    def __init__(self, policy: str, tracker: Tracker, detect: Detect | None = None, *, most_people: int,
                 detect_every: int = 15) -> None:
        """
        Raises:
            RecipeError: An unknown policy, or one that needs a detector without it.
        """
        if policy not in POLICIES:
            raise RecipeError(unknown_name("policy", policy, list(POLICIES)))
        if policy == "detect" and detect is None:
            raise RecipeError("policy 'detect' asks a detector on every frame, and there is none; give one, or take "
                              "'track' or 'frame'")
        self._policy, self._tracker, self._detect, self._most_people = policy, tracker, detect, most_people
        self._detect_every, self._since_asked = detect_every, detect_every
        self._steady = SteadyBoxes()

    def boxes(self, frame: Frame) -> Float:
        """(N, 4) boxes in the frame, those who are followed first; none where the detector finds nobody."""
        if self._policy == "frame":
            return frame_xywh(frame.bgr)[None]
        wanted = self._detected(frame) if self._policy == "detect" else self._followed_and_new(frame)
        if self._detect is None and len(wanted) == 0:
            return frame_xywh(frame.bgr)[None]
        return self._steady.steady(wanted[:self._most_people])

    def _followed_and_new(self, frame: Frame) -> Float:
        tracked = self._tracker.expected_xywh(frame.time_s, frame.bgr.shape[:2])
        self._since_asked += 1
        if self._detect is None or (len(tracked) and self._since_asked < self._detect_every):
            return tracked
        self._since_asked = 0
        return with_newcomers(tracked, self._detected(frame))

    def _detected(self, frame: Frame) -> Float:
        assert self._detect is not None
        return np.asarray(self._detect(frame.bgr), dtype=np.float64).reshape(-1, 4)


def with_newcomers(tracked_xywh: Float, detected_xywh: Float) -> Float:
    """The tracked boxes, then the detected ones of nobody who is tracked.

    A detector's box is of somebody tracked if both have the same extent, or one lies in the other: of somebody half in
    view the keypoints' box is the smaller, and of two boxes around one person one is enough.
    """
    known = ((overlap(detected_xywh, tracked_xywh) >= SAME_OVERLAP)
             | (containment(detected_xywh, tracked_xywh) >= SAME_CONTAINMENT)).any(1)
    return np.concatenate([tracked_xywh, detected_xywh[~known]])
