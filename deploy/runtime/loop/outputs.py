"""What becomes of a finished frame: a line of JSON, a drawn picture, a video, a line a second about the times.

In a thread of its own, so that a frame is drawn while the next one is in the network. Knows no camera and no model.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from time import perf_counter
from types import TracebackType

from deploy.runtime.frame import Frame
from deploy.runtime.loop.draw import draw_people
from deploy.runtime.loop.json_lines import JsonLines
from deploy.runtime.loop.stage_times import StageTimes
from deploy.runtime.loop.video_file import VideoFile
from deploy.runtime.people.track import Person
from edgekp.sample import Image
from edgekp.skeletons import Skeleton

WAITING = 2  # frames; more only add delay


@dataclass(frozen=True)
class Finished:
    """A frame, its people, and the milliseconds of each stage so far."""

    frame: Frame
    people: list[Person]
    stage_ms: dict[str, float]


class Outputs:
    """Takes finished frames in their order; waits when it has too many.

    Attributes:
        times: of all frames; read them after the end.
    """

    def __init__(self, skeleton: Skeleton, lines: JsonLines | None, video: VideoFile | None, *,
                 has_window: bool, least_score: float) -> None:
        self.times = StageTimes()
        self._picture: Image | None = None
        self._skeleton, self._least_score = skeleton, least_score
        self._lines, self._video, self._has_window = lines, video, has_window
        self._waiting: Queue[Finished | None] = Queue(WAITING)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="outputs", daemon=True)
        self._thread.start()

    def put(self, finished: Finished) -> None:
        """Hand a frame over; raises what went wrong with an earlier one."""
        if self._error:
            raise self._error
        self._waiting.put(finished)

    def newest_picture(self) -> Image | None:
        """What was drawn since the last call, for a window; None if nothing was."""
        picture, self._picture = self._picture, None
        return picture

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Finish what waits; then raise what went wrong, unless another error is on its way."""
        self._waiting.put(None)
        self._thread.join()
        if self._error and error is None:
            raise self._error

    def _work(self) -> None:
        while (finished := self._waiting.get()) is not None:
            if self._error:
                continue  # the queue is emptied, so that nobody waits for it
            try:
                self._finish(finished)
            except BaseException as error:  # noqa: BLE001  # raised in the main thread by the next call
                self._error = error

    def _finish(self, finished: Finished) -> None:
        start = perf_counter()
        if self._lines:
            self._lines.write(finished.frame, finished.people)
        draw_ms = {}
        if self._video or self._has_window:
            self._draw(finished)
            draw_ms = {"draw": 1e3 * (perf_counter() - start)}
        now = perf_counter()
        self.times.add(now, **finished.stage_ms, **draw_ms, end_to_end=1e3 * (now - finished.frame.taken_s)
                       + finished.frame.waited_ms)
        if line := self.times.line(now):
            print(line, file=sys.stderr, flush=True)

    def _draw(self, finished: Finished) -> None:
        canvas = finished.frame.bgr.copy()
        draw_people(canvas, finished.people, self._skeleton, self._least_score)
        if self._video:
            self._video.write(canvas)
        if self._has_window:
            self._picture = canvas
