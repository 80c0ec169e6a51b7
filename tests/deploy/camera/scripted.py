"""A camera that follows a script: pictures, damage, refusals, exceptions and calls that never come back.

    script = Script([[GOOD, GOOD, CUT], REFUSED, [GOOD, HANG]])
    camera = Camera(Source("scripted", True, script.open, "look at the script"), every_frame=False)

Each opening follows the next connection; after the last one there is no camera any more. ``itertools.cycle`` makes a
script without an end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deploy.runtime.camera import Camera, CameraLost, Counts
from deploy.runtime.frame import Frame
from edgekp.errors import CameraError
from edgekp.sample import Image


@dataclass(frozen=True)
class Good:
    """A picture that can be used; its serial number is written into the first pixel."""

    hw: tuple[int, int] = (4, 6)
    channels: int = 3  # 0 for a grey picture without an axis of channels


@dataclass(frozen=True)
class Bad:
    """A picture that cannot be used."""

    found: Any = None
    decoded: bool = True


@dataclass(frozen=True)
class Wait:
    """The next picture takes this long."""

    seconds: float


@dataclass(frozen=True)
class Raise:
    """OpenCV throws."""

    where: str = "grab"  # or retrieve


GOOD, CUT, HANG, REFUSED, HANG_OPEN = Good(), "cut", "hang", "refused", "hang while opening"
BADS = (Bad(None), Bad(None, decoded=False), Bad(np.zeros((0, 0, 3), np.uint8)), Bad(np.zeros((4, 6, 3), np.uint16)),
        Bad(np.zeros((4, 6, 2), np.uint8)), Bad(np.zeros(24, np.uint8)), Bad("no picture"))


class Script:
    """What happens at each opening.

    Attributes:
        given: usable pictures that were given so far.
        damaged: unusable ones.
        opened, released: how often.
        let_go: set it to end all calls that hang.
    """

    def __init__(self, connections: Iterable[Any], *, fps: float = 0.0, frames: int = 0) -> None:
        self._connections = iter(connections)
        self.fps, self.frames = fps, frames
        self.given = self.damaged = self.opened = self.released = 0
        self.let_go = threading.Event()
        self.lock = threading.Lock()

    def open(self) -> ScriptedCapture:
        with self.lock:
            self.opened += 1
            connection = next(self._connections, REFUSED)
        if connection == HANG_OPEN:
            self.let_go.wait()
        if isinstance(connection, str):
            raise CameraError(f"scripted: {connection}")
        return ScriptedCapture(self, connection)


class ScriptedCapture:
    """The part of ``cv2.VideoCapture`` that a Reader uses; a connection that ends is a source that ends."""

    def __init__(self, script: Script, steps: Iterable[Any]) -> None:
        self._script, self._steps = script, iter(steps)
        self._step: Any = CUT
        self._grabbed = 0

    def grab(self) -> bool:
        self._step = next(self._steps, CUT)
        while isinstance(self._step, Wait):
            time.sleep(self._step.seconds)
            self._step = next(self._steps, CUT)
        if self._step == HANG:
            self._script.let_go.wait()
            self._step = GOOD  # too late
        if self._step == Raise("grab"):
            raise cv2.error("rtsp://user:secret@host")
        self._grabbed += self._step != CUT
        return bool(self._step != CUT)

    def retrieve(self) -> tuple[bool, Any]:
        if isinstance(self._step, Raise):
            raise cv2.error("rtsp://user:secret@host")
        with self._script.lock:
            if isinstance(self._step, Bad):
                self._script.damaged += 1
                return self._step.decoded, self._step.found
            serial = self._script.given
            self._script.given += 1
        return True, picture(self._step, serial)

    def get(self, prop: int, /) -> float:
        answers = {cv2.CAP_PROP_FPS: self._script.fps, cv2.CAP_PROP_FRAME_COUNT: float(self._script.frames),
                   cv2.CAP_PROP_POS_MSEC: (self._grabbed - 1) * 1e3 / self._script.fps if self._script.fps else 0.0,
                   cv2.CAP_PROP_FRAME_WIDTH: 6.0, cv2.CAP_PROP_FRAME_HEIGHT: 4.0,
                   cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"MJPG"))}
        return answers.get(prop, 0.0)

    def release(self) -> None:
        with self._script.lock:
            self._script.released += 1


def picture(step: Good, serial: int) -> Image:
    bgr = np.zeros((*step.hw, step.channels) if step.channels else step.hw, np.uint8)
    digits = [serial & 255, serial >> 8 & 255, serial >> 16 & 255]
    bgr[0, 0] = digits[0] if step.channels < 3 else digits + [255] * (step.channels - 3)
    return bgr


def serial_of(bgr: Image) -> int:
    """Which usable picture of the script this is; of grey ones the last 8 bits, three times."""
    low, middle, high = (int(digit) for digit in bgr[0, 0])
    return low + (middle << 8) + (high << 16)


def frames_until(camera: Camera, enough: Callable[[Frame], bool], within_s: float = 5.0) -> list[Frame]:
    """Frames as a loop takes them, which goes on when the camera is lost."""
    found: list[Frame] = []
    deadline = time.monotonic() + within_s
    while not found or not enough(found[-1]):
        assert time.monotonic() < deadline, camera.counts
        try:
            frame = camera.next(0.02)
        except CameraLost:
            continue
        assert frame is not None
        found.append(frame)
    return found


def adds_up(counts: Counts) -> bool:
    return counts.read == counts.handed_out + counts.dropped + counts.waiting


def in_turn(steps: list[Any], turn: threading.Semaphore) -> Iterator[Any]:
    """The first step at once and each other one when its turn is released, so that no picture is dropped."""
    yield steps[0]
    for step in steps[1:]:
        turn.acquire(timeout=5.0)
        yield step
