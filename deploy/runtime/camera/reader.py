"""The thread that reads one source into a mailbox, again and again if it must. Knows no kind of camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import cv2

from deploy.runtime.camera.losses import Losses
from deploy.runtime.camera.mailbox import Mailbox
from deploy.runtime.camera.pictures import Capture, Facts, FileClock, pictures
from deploy.runtime.camera.source import Source
from edgekp.errors import CameraError
from edgekp.sample import Image
from edgekp.stage import say

DAMAGED_PARTS = 8  # of a file, in a row: FFmpeg stops at each, and goes on behind it when it is asked again


class Reader(threading.Thread):
    """Reads until it is retired; a daemon, because a driver may keep it inside a call for ever.

    Attributes:
        facts: what the source said of itself when it was opened.
        calling_since_s: ``time.monotonic`` of the start of the call into OpenCV in which the thread is; else None.
    """

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        super().__init__(name=f"camera {source.shown}", daemon=True)
        self.facts: Facts | None = None
        self.calling_since_s: float | None = None
        self._source, self._mailbox = source, mailbox
        self._retired = threading.Event()

    def retire(self) -> None:
        """Say and deliver nothing more, and end as soon as OpenCV comes back."""
        with self._mailbox.changed:
            self._retired.set()

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what may never come back."""
        self.calling_since_s = time.monotonic()
        try:
            return function(*args)
        finally:
            self.calling_since_s = None

    def _open(self) -> Capture:
        capture: Capture = self._call(self._source.open)
        self.facts = self._call(Facts.of, capture)
        try:
            self.facts.check_size(self._source.shown)
        except CameraError:
            self._call(capture.release)
            raise
        return capture

    def _end(self, error: CameraError | None = None) -> None:
        with self._mailbox.changed:
            if not self._retired.is_set():
                self._mailbox.end(error)


class LiveReader(Reader):
    """Reads a camera and calls it back when it is lost; one that never gave a picture is an error instead."""

    def __init__(self, source: Source, mailbox: Mailbox, losses: Losses, damaged_s: float) -> None:
        super().__init__(source, mailbox)
        self._losses, self._damaged_s = losses, damaged_s

    def run(self) -> None:
        while not self._retired.wait(self._losses.pause_s()):
            hint = f"; {self._source.hint}"
            try:
                why = f"{self._source.shown}: {self._read()}"
            except CameraError as error:
                why, hint = str(error), ""
            except cv2.error:  # its text may quote an address with its password
                why = f"{self._source.shown}: OpenCV fails while it reads"
            with self._mailbox.changed:
                if self._retired.is_set():
                    break
                if not self._mailbox.counts.read:
                    self._mailbox.end(CameraError(why + hint))
                    break
                self._losses.lost(why)

    def _read(self) -> str:
        """Read until the camera is lost, and say how it was."""
        capture = self._open()
        good_s = time.monotonic()
        try:
            for picture in pictures(capture, self._call):
                if picture.bgr is not None:
                    good_s = time.monotonic()
                    self._deliver(picture.bgr, picture.taken_s, picture.waited_ms)
                else:
                    self._mailbox.damage()
                    if time.monotonic() - good_s > self._damaged_s:
                        return "its pictures cannot be decoded"
                if self._retired.is_set():
                    break
            return "it gives no picture"
        finally:
            self._call(capture.release)

    def _deliver(self, bgr: Image, time_s: float, waited_ms: float) -> None:
        """Into the mailbox, which never waits for room here; a picture after the retirement is only counted."""
        with self._mailbox.changed:
            if self._retired.is_set():
                self._mailbox.drop()
                return
            if self._losses.found():
                self._mailbox.reconnect()
            self._mailbox.put(bgr, time_s, waited_ms)


class FileReader(Reader):
    """Reads a file to its end, once or again and again, as fast as it is wanted or at its own rate."""

    def __init__(self, source: Source, mailbox: Mailbox, *, loop: bool, paced: bool) -> None:
        super().__init__(source, mailbox)
        self._loop, self._paced = loop, paced

    def run(self) -> None:
        clock = FileClock()
        try:
            self._play(clock)
            while self._loop and not self._retired.is_set():
                clock.start_again()
                self._play(clock)
        except CameraError as error:
            self._end(error)
        else:
            self._end()

    def _play(self, clock: FileClock) -> None:
        """Once from start to end.

        Raises:
            CameraError: It cannot be opened, or there is no picture in it.
        """
        capture = self._open()
        start_s: float | None = None
        count = 0
        try:
            for picture in pictures(capture, self._call, DAMAGED_PARTS):
                if picture.bgr is None:
                    self._mailbox.damage()
                    continue
                time_s = clock.at(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, self.facts.fps if self.facts else None)
                start_s = time.perf_counter() - time_s if start_s is None else start_s
                if self._paced:
                    self._retired.wait(max(0.0, start_s + time_s - time.perf_counter()))
                self._mailbox.put(picture.bgr, time_s, picture.waited_ms)
                count += 1
                if self._retired.is_set():
                    return
        except cv2.error:
            say(f"{self._source.shown}: OpenCV fails after {count} pictures; the rest is left out")
        finally:
            self._call(capture.release)
        self._judge(count)

    def _judge(self, count: int) -> None:
        """A file that gave less than it promised says so; one that gave nothing is an error."""
        assert self.facts is not None
        promised = self.facts.frames
        if not count:
            raise CameraError(f"{self._source.shown}: there is no picture in it that OpenCV can decode; "
                              f"{self._source.hint}")
        if promised and count < 0.99 * promised - 2:  # a header's number is rounded from its duration
            say(f"{self._source.shown}: {count} of about {promised} pictures; the rest is damaged or missing")
