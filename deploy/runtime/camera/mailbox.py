"""Pictures on their way from the thread that reads them to the loop that wants them. Knows no camera."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import perf_counter

from deploy.runtime.frame import Frame
from edgekp.errors import CameraError
from edgekp.sample import Image


@dataclass(frozen=True)
class Counts:
    """Where the pictures of a camera went: read = handed_out + dropped + waiting.

    Attributes:
        damaged: what could not be decoded into a picture; not in ``read``, and without a number.
        reconnects: how often the camera was lost and came back.
    """

    read: int = 0
    handed_out: int = 0
    dropped: int = 0
    waiting: int = 0
    damaged: int = 0
    reconnects: int = 0


class Mailbox:
    """At most ``room`` frames wait; when it is full the oldest one is dropped, or else whoever puts has to wait.

    Attributes:
        changed: notified whenever a waiting thread should look again; it guards all that is in here.
        ended: no frame will come any more.
        error: why that is, unless the source simply came to its end.
    """

    def __init__(self, room: int, *, drops: bool) -> None:
        self.changed = threading.Condition()
        self.ended = False
        self.error: CameraError | None = None
        self._room, self._drops = room, drops
        self._frames: deque[Frame] = deque()
        self._read = self._handed_out = self._dropped = self._damaged = self._reconnects = 0

    def put(self, bgr: Image, time_s: float, waited_ms: float) -> None:
        """Number a picture and leave it here; after the end it only counts as dropped."""
        with self.changed:
            frame = Frame(bgr, self._read, time_s, perf_counter(), waited_ms)
            self._read += 1
            self.changed.wait_for(lambda: self.ended or self._drops or len(self._frames) < self._room)
            if self.ended:
                self._dropped += 1
                return
            while len(self._frames) >= self._room:
                self._frames.popleft()
                self._dropped += 1
            self._frames.append(frame)
            self.changed.notify_all()

    def take(self) -> Frame | None:
        """The oldest frame that waits, or None at once."""
        with self.changed:
            if not self._frames:
                return None
            self._handed_out += 1
            self.changed.notify_all()
            return self._frames.popleft()

    def end(self, error: CameraError | None = None) -> None:
        """Nothing comes any more; what waits can still be taken. The first end counts."""
        with self.changed:
            if not self.ended:
                self.ended, self.error = True, error
            self.changed.notify_all()

    def drop(self) -> None:
        """A picture came too late, from a connection that was given up."""
        with self.changed:
            self._read += 1
            self._dropped += 1

    def damage(self) -> None:
        with self.changed:
            self._damaged += 1

    def reconnect(self) -> None:
        with self.changed:
            self._reconnects += 1

    @property
    def counts(self) -> Counts:
        with self.changed:
            waiting = len(self._frames)
            pending = self._read - self._handed_out - self._dropped - waiting  # one that waits for room
            return Counts(self._read, self._handed_out, self._dropped, waiting + pending, self._damaged,
                          self._reconnects)
