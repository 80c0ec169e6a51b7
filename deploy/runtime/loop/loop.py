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
from deploy.runtime.loop.frame_memory import give_back_unused
from deploy.runtime.loop.outputs import Finished, Outputs
from deploy.runtime.loop.window import Window
from deploy.runtime.people.find_people import PeopleFinder
from deploy.runtime.people.track import Tracker

LONGEST_WAIT_S = 0.5  # for a frame, before the window and the user's wish to stop are looked after
NO_BOXES = np.empty((0, 4))


@dataclass
class Stop:
    """The user's wish to stop: it interrupts what is being opened; the frame in hand and the files are finished.

    Attributes:
        asked: the loop is to end after the frame in hand.
    """

    asked: bool = False
    _running: bool = False
    _closing: bool = False

    @contextmanager
    def at_the_next_frame(self) -> Iterator[None]:
        """Within, the first signal only asks and the second interrupts; afterwards none does: files are closed."""
        self._running = True
        try:
            yield
        finally:
            self._closing = True

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._closing:
            return
        if self._running and not self.asked:
            self.asked = True
            return
        self._closing = True  # so that it interrupts once, and all that is open can be closed
        raise KeyboardInterrupt

    @property
    def cut_an_import(self) -> bool:
        """Whether an ImportError may be what a module written in C makes of the interruption."""
        return self._closing and not self._running


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Ctrl-C or SIGTERM asks for the end; to be entered before all that must be closed in spite of them."""
    stop = Stop()
    before = {number: signal.signal(number, stop.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except ImportError as error:
        if stop.cut_an_import:
            raise KeyboardInterrupt from error
        raise
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
        done, shape = 0, None
        while done != most_frames and not stop.asked and self._is_watched():
            try:
                frame = self.camera.next(LONGEST_WAIT_S)
            except CameraLost:  # the camera says so itself, and calls it back meanwhile
                continue
            if frame is None:
                break
            if frame.bgr.shape != shape:  # the camera is another, or came back as another
                shape = frame.bgr.shape
                give_back_unused()
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
