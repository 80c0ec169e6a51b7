"""A camera as the loop sees it: frames, and whether they still come. Knows neither OpenCV nor kinds of cameras."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from deploy.runtime.camera.losses import Losses
from deploy.runtime.camera.mailbox import Counts, Mailbox
from deploy.runtime.camera.pictures import Facts
from deploy.runtime.camera.reader import FileReader, LiveReader, Reader
from deploy.runtime.camera.source import Source
from deploy.runtime.frame import Frame
from edgekp.errors import CameraError

FILE_QUEUE = 4  # pictures decoded ahead: enough to bridge a slow frame, 25 MB at 1080p
MOST_STUCK = 4  # threads that a driver may keep; more would only wait in the same place
WATCH_S = 0.1  # how often a waiting loop looks whether its reader is stuck


class CameraLost(CameraError):
    """No new frame in time; the camera is being called back, and the next call may succeed."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for what.

    Attributes:
        start_s: for the first picture; streams wait for a keyframe.
        stuck_s: for one call into OpenCV, before its thread is given up and the camera opened anew. Longer than
            the time limits of FFmpeg (5 s) and V4L2 (10 s), which end a call in an orderly way.
        damaged_s: for a picture that can be decoded, when the camera sends others.
        pauses_s: the first and the last pause between attempts to call a lost camera back.
        close_s: for the thread, when the camera is closed.
        give_up_s: for a lost camera; None: for ever.
    """

    start_s: float = 20.0
    stuck_s: float = 12.0
    damaged_s: float = 5.0
    pauses_s: tuple[float, float] = (0.5, 8.0)
    close_s: float = 2.0
    give_up_s: float | None = None


class Camera:
    """Frames of a camera, stream, video or folder of pictures, read by a thread of its own; made by ``open_camera``."""

    def __init__(self, source: Source, *, every_frame: bool, loop: bool = False,
                 patience: Patience | None = None) -> None:
        self._source, self._every_frame, self._loop = source, every_frame, loop
        self._patience = patience or Patience()
        self._mailbox = Mailbox(FILE_QUEUE if every_frame else 1, drops=not every_frame)
        self._losses = Losses(source.shown, self._patience.pauses_s)
        self._stuck: list[Reader] = []
        self._reader = self._start_reader()
        try:
            self._facts = self._await_first()
        except BaseException:  # Ctrl-C too: the thread must not outlive what nobody can close
            self.close()
            raise

    @property
    def fps(self) -> float | None:
        """Pictures a second, as the source says; None if it does not know."""
        return self._facts.fps

    @property
    def counts(self) -> Counts:
        return self._mailbox.counts

    def describe(self) -> str:
        """What was opened, and what a camera gives of what it was asked for; never a password."""
        size = "size unknown" if self._facts.size_wh is None else "{} x {}".format(*self._facts.size_wh)
        rate = "rate unknown" if self.fps is None else f"{self.fps:.4g} fps"
        code = "" if self._facts.fourcc is None else f", {self._facts.fourcc}"
        asked = self._source.wish.refused(self._facts.size_wh, self.fps)
        how = "every frame" if self._every_frame else "the newest frame"
        return f"{self._source.shown}: {size}, {rate}{code}{asked}; {how}"

    def next(self, timeout_s: float = 2.0) -> Frame | None:
        """Wait for a frame newer than the last; None: the source has come to its end, or was closed.

        Raises:
            CameraLost: None came in time. The loop may go on and ask again: readers call the camera back meanwhile.
            CameraError: The camera stays away for good.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._mailbox.changed:
                frame = self._mailbox.take()
                if frame is not None:
                    return frame
                if self._mailbox.error is not None:
                    raise self._mailbox.error
                if self._mailbox.ended:
                    return None
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise CameraLost(f"{self._source.shown}: no frame within {timeout_s:g} s")
                self._mailbox.changed.wait(min(left_s, WATCH_S))
            self._watch()

    def close(self) -> None:
        """End the thread and give the camera back; a thread that the driver keeps is left behind."""
        with self._mailbox.changed:
            self._reader.retire()
            self._mailbox.end()
        self._reader.join(self._patience.close_s)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _start_reader(self) -> Reader:
        reader: Reader
        if self._source.live:
            reader = LiveReader(self._source, self._mailbox, self._losses, self._patience.damaged_s)
        else:
            reader = FileReader(self._source, self._mailbox, loop=self._loop, paced=not self._every_frame)
        reader.start()
        return reader

    def _await_first(self) -> Facts:
        """Wait for the first picture.

        Raises:
            CameraError: There is none.
        """
        mailbox = self._mailbox
        with mailbox.changed:
            mailbox.changed.wait_for(lambda: mailbox.ended or mailbox.counts.read, self._patience.start_s)
            if mailbox.error is not None:
                raise mailbox.error
            if not mailbox.counts.read or self._reader.facts is None:
                raise CameraError(f"{self._source.shown}: no picture within {self._patience.start_s:g} s; "
                                  f"{self._source.hint}")
            return self._reader.facts

    def _watch(self) -> None:
        """Give up a reader that OpenCV keeps or that died, and a camera that stays away for too long."""
        with self._mailbox.changed:
            if self._mailbox.ended:
                return
            if self._patience.give_up_s is not None and self._losses.gone_s > self._patience.give_up_s:
                self._reader.retire()
                self._mailbox.end(CameraError(f"{self._source.shown}: lost, and not back within "
                                              f"{self._patience.give_up_s:g} s; {self._source.hint}"))
                return
            reader, since_s = self._reader, self._reader.calling_since_s
            stuck = since_s is not None and time.monotonic() - since_s > self._patience.stuck_s
            if reader.is_alive() and not (stuck and self._source.live):
                return
            if not self._source.live:
                self._mailbox.end(CameraError(f"{self._source.shown}: reading it failed"))
                return
            self._stuck = [one for one in self._stuck if one.is_alive()]
            if len(self._stuck) < MOST_STUCK:
                self._replace_reader("OpenCV does not come back from reading it" if stuck else "its reader died")

    def _replace_reader(self, why: str) -> None:
        self._reader.retire()
        self._stuck.append(self._reader)
        self._losses.lost(f"{self._source.shown}: {why}")
        self._reader = self._start_reader()
