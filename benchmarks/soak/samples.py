"""What a process and its camera loop look like, second by second, written down at once so that it needs no memory.

Knows no limit: benchmarks/soak/checks.py judges.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.runtime.loop.stage_times import STAGES, StageTimes

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20 if hasattr(os, "sysconf") else 0.0
REFERENCE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
REFERENCE_RUNS = 5


@dataclass(frozen=True)
class Held:
    """What this process holds of the machine."""

    rss_mb: float
    in_use_mb: float  # of what the C library handed out; the rest of the resident set is what it keeps between
    blocks: int  # of memory that Python's objects have
    threads: int  # of Python
    tasks: int  # of the system: those of libraries too
    files: int

    @classmethod
    def now(cls) -> Held:
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(resident * PAGE_MB, in_use_mb(), sys.getallocatedblocks(), threading.active_count(),
                   _entries("/proc/self/task"), _entries("/proc/self/fd") - 1)  # one lists them


class _Mallinfo2(ctypes.Structure):
    """The fields of glibc's ``struct mallinfo2``, all arenas together."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks",
                                                          "fsmblks", "uordblks", "fordblks", "keepcost"))


def in_use_mb() -> float:
    """Memory that was asked of the C library and not given back, MB; NaN without glibc 2.33 or newer."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return float("nan")
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return float(found.uordblks + found.hblkhd) / 2**20


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


class SampledTimes(StageTimes):
    """The times of a loop that can also be asked for each second's."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._second: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def add(self, now_s: float, **stage_ms: float) -> None:
        super().add(now_s, **stage_ms)
        with self._lock:
            for stage, ms in stage_ms.items():
                self._second[stage].append(ms)

    def line(self, now_s: float) -> str | None:
        """Its numbers go into the samples; the loop's own line would be 1800 lines."""
        super().line(now_s)
        return None

    def of_this_second(self) -> dict[str, list[float]]:
        """``[p50, p95]`` in ms by stage, since the last call."""
        with self._lock:
            second, self._second = self._second, {stage: [] for stage in STAGES}
        return {stage: np.percentile(ms, (50, 95)).round(4).tolist() for stage, ms in second.items() if ms}


class Sampler(threading.Thread):
    """Writes a line each second until the end, then says so."""

    def __init__(self, path: Path, times: SampledTimes, counts: Callable[[], dict[str, int]], seconds: float,
                 at_end: Callable[[], None]) -> None:
        super().__init__(name="sampler", daemon=True)
        self._path, self._times, self._counts, self._seconds, self._at_end = path, times, counts, seconds, at_end
        self.over = threading.Event()

    def run(self) -> None:
        start_s = time.monotonic()
        with self._path.open("w") as file:
            for second in range(1, int(self._seconds) + 1):
                if self.over.wait(max(0.0, start_s + second - time.monotonic())):
                    break
                print(json.dumps(self._sample(second)), file=file, flush=True)
        self._at_end()

    def _sample(self, second: int) -> dict[str, Any]:
        return {"second": second, **asdict(Held.now()), **self._counts(), "cpu_s": round(time.process_time(), 3),
                "reference_ms": round(reference_ms(), 4), "ms": self._times.of_this_second()}


def reference_ms() -> float:
    """A piece of work that is always the same: how busy the machine is."""
    found = []
    for _ in range(REFERENCE_RUNS):
        start_s = time.perf_counter()
        cv2.medianBlur(REFERENCE, 5)
        found.append(1e3 * (time.perf_counter() - start_s))
    return float(np.median(found))
