"""How long each part of the work on a frame takes: a line a second, and a summary. Knows no clock."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

STAGES = ("capture", "boxes", "pre", "infer", "decode", "draw", "end_to_end")
REMEMBERED = 10_000  # frames of which the summary speaks, so that a camera may run for weeks


class StageTimes:
    """Milliseconds by stage, of every frame; ``end_to_end`` is from the frame's arrival to the drawn picture."""

    def __init__(self) -> None:
        self._frames = 0
        self._all: dict[str, deque[float]] = {stage: deque(maxlen=REMEMBERED) for stage in STAGES}
        self._recent: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._began_s: float | None = None
        self._said_s = 0.0

    def add(self, now_s: float, **stage_ms: float) -> None:
        """The times of one finished frame; stages that are not named did not take place."""
        if self._began_s is None:
            self._began_s = self._said_s = now_s  # rates count from the first finished frame
        else:
            self._frames += 1
        for stage, ms in stage_ms.items():
            self._all[stage].append(ms)
            self._recent[stage].append(ms)

    def line(self, now_s: float) -> str | None:
        """Rate and times since the last line; None until a second has passed."""
        if self._began_s is None or now_s - self._said_s < 1:
            return None
        frames = len(self._recent["end_to_end"])
        parts = [f"{frames / (now_s - self._said_s):5.1f} fps"]
        parts += [f"{stage.replace('_', ' ')} {_spelled(times)}" for stage, times in self._recent.items() if times]
        self._said_s = now_s
        self._recent = {stage: [] for stage in STAGES}
        return "  ".join(parts) + "  ms p50/p95"

    def summary(self, now_s: float) -> dict[str, Any]:
        """``fps`` over all, and p50, p95 and p99 by stage in ms, of the last frames."""
        seconds = now_s - self._began_s if self._began_s is not None else 0.0
        return {"fps": self._frames / seconds if seconds > 0 else 0.0,
                "ms": {stage: dict(zip(("p50", "p95", "p99"), np.percentile(times, (50, 95, 99)).round(3).tolist(),
                                       strict=True))
                       for stage, times in self._all.items() if times}}


def _spelled(times: list[float]) -> str:
    return "{:.1f}/{:.1f}".format(*np.percentile(times, (50, 95)))
