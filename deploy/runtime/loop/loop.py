"""The loop of a camera: frame, boxes, keypoints, identities, outputs. Knows no runtime and no option.

Three threads: the camera's reads ahead, this one runs the network, and that of the outputs draws the frame before.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from types import FrameType

import numpy as np

from deploy.runtime.camera import Camera, CameraLost
from deploy.runtime.frame import Estimator, Frame
from deploy.runtime.loop.outputs import Finished, Outputs
from deploy.runtime.loop.window import Window
from deploy.runtime.people.find_people import PeopleFinder
from deploy.runtime.people.track import Tracker

LONGEST_WAIT_S = 0.5  # for a frame, before the window and the user's wish to stop are looked after
NO_BOXES = np.empty((0, 4))


@dataclass
class Stop:
    """Whether the user asked for the end."""

    asked: bool = False


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Ctrl-C or SIGTERM asks for the end, so that the frame in hand is finished; asked twice, it comes at once."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Loop:
    """All that a frame passes through."""

    camera: Camera
    estimator: Estimator
    finder: PeopleFinder
    tracker: Tracker
    outputs: Outputs
    window: Window | None

    def run(self, most_frames: int | None, stop: Stop) -> int:
        """Until the source ends, so many frames are done, or somebody wants to stop; how many frames were done."""
        done = 0
        while done != most_frames and not stop.asked and self._is_watched():
            try:
                frame = self.camera.next(LONGEST_WAIT_S)
            except CameraLost:  # the camera says so itself, and calls it back meanwhile
                continue
            if frame is None:
                break
            self.outputs.put(self._finished(frame))
            done += 1
        return done

    def _finished(self, frame: Frame) -> Finished:
        """The people of a frame, with their identities."""
        start, frame_hw = perf_counter(), (frame.bgr.shape[0], frame.bgr.shape[1])
        boxes_xywh = self.finder.boxes(frame) if self.estimator.needs_boxes else None
        found_ms = 1e3 * (perf_counter() - start)
        estimate = self.estimator.estimate(frame.bgr, NO_BOXES if boxes_xywh is None else boxes_xywh)
        people = self.tracker.update(estimate.people, boxes_xywh, frame.time_s, frame_hw)
        return Finished(frame, people, {"capture": frame.waited_ms, "boxes": found_ms, "pre": estimate.pre_ms,
                                        "infer": estimate.infer_ms, "decode": estimate.decode_ms})

    def _is_watched(self) -> bool:
        return self.window is None or self.window.show(self.outputs.newest_picture())
