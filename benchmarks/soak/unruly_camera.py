"""A camera that does what cameras should not, at the level of ``cv2.VideoCapture``. Knows neither loop nor network.

It counts what it gave by itself, so that what the loop says of its frames can be held against it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from benchmarks.soak.crowd import Crowd
from edgekp.errors import CameraError
from edgekp.sample import Image

SIZES_WH = ((640, 480), (320, 240), (1280, 720), (176, 144), (480, 640))
UNUSABLE: tuple[tuple[bool, Any], ...] = (
    (False, None), (True, None), (True, np.zeros((0, 0, 3), np.uint8)), (True, np.zeros((4, 6, 3), np.uint16)),
    (True, np.zeros((4, 6, 2), np.uint8)), (True, np.zeros(24, np.uint8)), (True, "no picture"))


class Reel(Protocol):
    """Where a connection's pictures come from before they are spoiled."""

    def grab(self) -> bool: ...
    def retrieve(self) -> Image: ...
    def release(self) -> None: ...


@dataclass(frozen=True)
class Drawn:
    """Pictures of a crowd, without an end."""

    crowd: Crowd

    def grab(self) -> bool:
        return True

    def retrieve(self) -> Image:
        return self.crowd.picture(SIZES_WH[0])

    def release(self) -> None:
        pass


class Looped:
    """A video again and again."""

    def __init__(self, path: str) -> None:
        self._path, self._video = path, cv2.VideoCapture(path)

    def grab(self) -> bool:
        if self._video.grab():
            return True
        self._video.release()
        self._video = cv2.VideoCapture(self._path)
        return bool(self._video.grab())

    def retrieve(self) -> Image:
        return np.asarray(self._video.retrieve()[1], dtype=np.uint8)

    def release(self) -> None:
        self._video.release()


@dataclass(frozen=True)
class Fault:
    """Something that happens after so many good pictures; what ``amount`` means is up to the kind, see ``KINDS``."""

    after: int
    kind: str
    amount: float


class UnrulyCamera:
    """Connections to one camera, whose faults follow one plan.

    Attributes:
        given: usable pictures that were given so far.
        damaged: unusable ones.
        opened, released: connections.
        faults: how often each kind took place.
        let_go: set it to end all calls that hang, and all faults.
    """

    def __init__(self, open_reel: Callable[[int], Reel], plan: Iterator[Fault], *, fps: float, seed: int = 0) -> None:
        self.given = self.damaged = self.opened = self.released = 0
        self.faults: Counter[str] = Counter()
        self.let_go = threading.Event()
        self.fps, self.lock = fps, threading.Lock()
        self.refusals, self.hang_open_s, self.size_wh = 0, 0.0, SIZES_WH[0]
        self._open_reel, self._plan, self._rng = open_reel, plan, np.random.default_rng(seed)
        self._next, self._good = next(plan, None), 0

    def open(self) -> UnrulyCapture:
        with self.lock:
            number, self.opened = self.opened, self.opened + 1
            hang_s, self.hang_open_s = self.hang_open_s, 0.0
            refused, self.refusals = self.refusals > 0, max(0, self.refusals - 1)
        if hang_s:
            self.let_go.wait(hang_s)
        if refused:
            with self.lock:
                self.released += 1
            raise CameraError("unruly: nobody answers")
        return UnrulyCapture(self, self._open_reel(number))

    def due(self) -> Fault | None:
        """The fault whose turn it is, once."""
        with self.lock:
            if self._next is None or self._good < self._next.after or self.let_go.is_set():
                return None
            fault, self._next, self._good = self._next, next(self._plan, None), 0
            self.faults[fault.kind] += 1
            return fault

    def count(self, *, usable: bool) -> None:
        with self.lock:
            self.given += usable
            self.damaged += not usable
            self._good += usable

    def choose(self, choices: int) -> int:
        with self.lock:
            return int(self._rng.integers(choices))


class UnrulyCapture:
    """One connection: the part of ``cv2.VideoCapture`` that a reader uses."""

    def __init__(self, camera: UnrulyCamera, reel: Reel) -> None:
        self._camera, self._reel = camera, reel
        self._due_s = time.monotonic()
        self._spoiled, self._spoiled_until_s, self._channels = 0, 0.0, 3
        self._fails = False

    def grab(self) -> bool:
        now_s = time.monotonic()
        time.sleep(max(0.0, self._due_s - now_s))
        self._due_s = max(self._due_s, now_s) + 1 / self._camera.fps
        fault = self._camera.due()
        return (fault is None or KINDS[fault.kind](self, fault.amount)) and self._reel.grab()

    def retrieve(self) -> tuple[bool, Any]:
        if self._fails:
            raise cv2.error("rtsp://user:secret@host")
        bgr = self._reel.retrieve()
        if self._spoiled > 0 or time.monotonic() < self._spoiled_until_s:
            self._spoiled -= 1
            self._camera.count(usable=False)
            return UNUSABLE[self._camera.choose(len(UNUSABLE))]
        self._camera.count(usable=True)
        if bgr.shape[1::-1] != self._camera.size_wh:
            bgr = np.asarray(cv2.resize(bgr, self._camera.size_wh), dtype=np.uint8)
        codes = {1: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGR2BGRA}
        return True, bgr if self._channels == 3 else cv2.cvtColor(bgr, codes[self._channels])

    def get(self, prop: int, /) -> float:
        width, height = self._camera.size_wh
        return {cv2.CAP_PROP_FPS: self._camera.fps, cv2.CAP_PROP_FRAME_WIDTH: float(width),
                cv2.CAP_PROP_FRAME_HEIGHT: float(height)}.get(prop, 0.0)

    def release(self) -> None:
        self._reel.release()
        with self._camera.lock:
            self._camera.released += 1

    def drop(self, pictures: float) -> bool:
        return all(self._reel.grab() for _ in range(int(pictures)))

    def stall(self, seconds: float) -> bool:
        self._camera.let_go.wait(seconds)
        return True

    def cut(self, _: float) -> bool:
        return False

    def refuse(self, times: float) -> bool:
        with self._camera.lock:
            self._camera.refusals = int(times)
        return False

    def hang_open(self, seconds: float) -> bool:
        with self._camera.lock:
            self._camera.hang_open_s = seconds
        return False

    def raise_in_grab(self, _: float) -> bool:
        raise cv2.error("rtsp://user:secret@host")

    def raise_in_retrieve(self, _: float) -> bool:
        self._fails = True
        return True

    def die(self, _: float) -> bool:
        raise MemoryError

    def resize(self, _: float) -> bool:
        size_wh = SIZES_WH[self._camera.choose(len(SIZES_WH))]
        with self._camera.lock:
            self._camera.size_wh = size_wh
        return True

    def damage(self, pictures: float) -> bool:
        self._spoiled = int(pictures)
        return True

    def damage_for_long(self, seconds: float) -> bool:
        self._spoiled_until_s = time.monotonic() + seconds
        return True

    def recolor(self, _: float) -> bool:
        self._channels = (1, 3, 4)[self._camera.choose(3)]
        return True


# What each does with a connection in ``grab``, which gives False where it breaks off; amounts are pictures, seconds or
# times by the name of the argument.
KINDS: dict[str, Callable[[UnrulyCapture, float], bool]] = {
    "drop": UnrulyCapture.drop, "stall": UnrulyCapture.stall, "hang": UnrulyCapture.stall, "cut": UnrulyCapture.cut,
    "refuse": UnrulyCapture.refuse, "hang_open": UnrulyCapture.hang_open, "raise_in_grab": UnrulyCapture.raise_in_grab,
    "raise_in_retrieve": UnrulyCapture.raise_in_retrieve, "die": UnrulyCapture.die, "resize": UnrulyCapture.resize,
    "damage": UnrulyCapture.damage, "damage_for_long": UnrulyCapture.damage_for_long, "recolor": UnrulyCapture.recolor}


def endless_plan(seed: int, every: int, stuck_s: float, damaged_s: float) -> Iterator[Fault]:
    """Faults of all kinds, ``every`` so many pictures in the mean; those that are to be given up last long enough."""
    rng = np.random.default_rng(seed)
    amounts = {"drop": (1, 60), "stall": (0.05, 0.6 * stuck_s), "hang": (1.2 * stuck_s, 4 * stuck_s),
               "refuse": (1, 4), "hang_open": (1.2 * stuck_s, 4 * stuck_s), "damage": (1, 20),
               "damage_for_long": (1.1 * damaged_s, 2 * damaged_s)}
    while True:
        kind = list(KINDS)[int(rng.integers(len(KINDS)))]
        yield Fault(int(rng.integers(0, 2 * every)), kind, float(rng.uniform(*amounts.get(kind, (0, 1)))))
