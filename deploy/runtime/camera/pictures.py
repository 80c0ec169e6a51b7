"""What OpenCV gives, turned into colour pictures. Knows no camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from edgekp.errors import CameraError, DataError
from edgekp.image_header import PIXEL_LIMIT_NAME, pixel_limit
from edgekp.sample import Image

MOST_FPS = 1000.0  # streams whose rate nobody knows answer with their clock's, 90000
USUAL_FPS = 30.0


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that is used."""

    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, prop: int, /) -> float: ...
    def release(self) -> None: ...


@dataclass(frozen=True)
class Facts:
    """What a source says of itself; None where it does not know."""

    size_wh: tuple[int, int] | None
    fps: float | None
    frames: int | None
    fourcc: str | None  # MJPG, h264 ...

    @classmethod
    def of(cls, capture: Capture) -> Facts:
        width, height, fps, frames, code = (float(capture.get(prop)) for prop in (
            cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT,
            cv2.CAP_PROP_FOURCC))
        fourcc = (int(code) & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace") if code > 0 else ""
        return cls((int(width), int(height)) if width > 0 and height > 0 else None,
                   fps if 0 < fps <= MOST_FPS else None, int(frames) if 0 < frames < 1e9 else None,
                   fourcc if fourcc.isascii() and fourcc.isalnum() else None)

    def check_size(self, name: str) -> None:
        """Of what was opened, before its first picture is decoded.

        Raises:
            CameraError: Its pictures have more pixels than may be decoded.
        """
        width, height = self.size_wh or (0, 0)
        try:
            most = pixel_limit()
        except DataError as error:
            raise CameraError(str(error)) from error
        if width * height > most:
            raise CameraError(f"{name}: its pictures have {width} x {height} pixels, at most {most:,} are decoded; "
                              f"make them smaller, or set {PIXEL_LIMIT_NAME} to allow more")


@dataclass(frozen=True)
class Picture:
    """One picture as it was read.

    Attributes:
        bgr: None if it was damaged.
        taken_s: by ``time.perf_counter``, when the source gave it and before it was decoded.
    """

    bgr: Image | None
    taken_s: float
    waited_ms: float


Call = Callable[..., Any]  # calls a function that may never come back


def pictures(capture: Capture, call: Call, bears: int = 0) -> Iterator[Picture]:
    """Picture by picture, until the source gives none for more than ``bears`` times in a row."""
    missed = 0
    while missed <= bears:
        start = time.perf_counter()
        if not call(capture.grab):
            missed += 1
            continue
        taken = time.perf_counter()
        yield from [Picture(None, taken, 0.0)] * missed
        missed = 0
        good, found = call(capture.retrieve)
        bgr = colour(found) if good else None
        yield Picture(bgr, taken, (time.perf_counter() - start) * 1e3)


def colour(found: Any) -> Image | None:
    """(H, W, 3) BGR of a grey, BGR or BGRA picture of bytes; None for anything else."""
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.size == 0:
        return None
    channels = found.shape[2] if found.ndim == 3 else 1 if found.ndim == 2 else 0
    if channels == 3:
        return found
    codes = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}
    if channels not in codes:
        return None
    return np.asarray(cv2.cvtColor(found, codes[channels]), dtype=np.uint8)


class FileClock:
    """The time of each picture of a file: never stands still or runs back, not even when the file starts again."""

    def __init__(self) -> None:
        self._next_s = self._now_s = self._round_s = 0.0
        self._first = True

    def at(self, file_s: float, fps: float | None) -> float:
        """Seconds since the first picture of the first round; one step of ``fps`` on if the file's time says less."""
        said_s = file_s + self._round_s
        if self._first or said_s <= self._now_s:
            said_s = self._next_s
        self._first = False
        self._now_s, self._next_s = said_s, said_s + 1 / (fps or USUAL_FPS)
        return said_s

    def start_again(self) -> None:
        """The next picture follows the last one by one step."""
        self._round_s, self._first = self._next_s, True
