"""The line a second and the summary say what the frames took."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.runtime.loop.stage_times import REMEMBERED, StageTimes


def test_a_line_comes_once_a_second_and_speaks_of_that_second() -> None:
    times = StageTimes()
    lines = []
    for frame in range(50):  # 20 a second
        now_s = 10 + frame / 20
        times.add(now_s, infer=2.0 if frame < 25 else 4.0, end_to_end=7.0)
        lines.append(times.line(now_s))
    said = [line for line in lines if line]
    assert len(said) == 2
    assert said[0].startswith(" 21.0 fps")  # the second's frames, the one that began it included
    assert "infer 2.0/2.0" in said[0]
    assert said[1].startswith(" 20.0 fps")
    assert "infer 4.0/4.0" in said[1]
    assert "draw" not in said[1]


def test_the_summary_has_the_percentiles_of_numpy_and_the_rate_between_the_frames() -> None:
    rng, times = np.random.default_rng(0), StageTimes()
    taken = rng.gamma(2, 3, 400)
    for frame, ms in enumerate(taken):
        times.add(frame / 25, infer=ms, end_to_end=ms)
    summary = times.summary(399 / 25)
    assert summary["fps"] == pytest.approx(25)
    assert summary["ms"]["infer"] == pytest.approx(
        dict(zip(("p50", "p95", "p99"), np.percentile(taken, (50, 95, 99)), strict=True)), abs=1e-3)


def test_without_a_frame_there_is_nothing_to_say() -> None:
    times = StageTimes()
    assert times.line(5.0) is None
    assert times.summary(5.0) == {"fps": 0.0, "ms": {}}


def test_memory_does_not_grow_with_the_frames() -> None:
    times = StageTimes()
    for frame in range(2 * REMEMBERED):
        times.add(frame / 1000, end_to_end=float(frame))
        times.line(frame / 1000)
    assert times.summary(1.0)["ms"]["end_to_end"]["p50"] >= REMEMBERED
    assert sum(len(held) for held in (*times._all.values(), *times._recent.values())) <= REMEMBERED + 1001
