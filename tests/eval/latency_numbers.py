"""Latencies without a stopwatch: noise that was recorded once, and evidence made of any numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import Any

import numpy as np

from eval.latency import Times
from eval.latency_evidence import CallCost, Evidence, Percentiles, Process
from eval.machine_stamp import Reading, Stamp

STILL = (Reading(clock_mhz=1510.0, temperature_c=45.0), Reading(clock_mhz=1510.0, temperature_c=46.5))
BOARD = Stamp(processor="ARMv8 Processor rev 1 (v8l)", cores=6, system="Linux 5.15.136-tegra",
              board="NVIDIA Jetson Orin Nano Developer Kit", governor="schedutil", clock_limit_mhz=1510.4,
              clock_locked=True, power_mode="15W", runtime="onnxruntime 1.24.4", threads=1, pinned_core=5)
COST = CallCost(wall_ms=Percentiles(p50=2.0, p90=2.5, p99=4.0), cpu_ms=Percentiles(p50=1.9, p90=2.2, p99=3.0),
                size_bytes=2_000_000, peak_memory_bytes=87_000_000, energy_mj=11.5)

# (log ratio, self log ratio) of 60 processes with one model as baseline and candidate: 1.5 ms a call, ONNX Runtime on
# two shared virtual cores, others at work. Their correlation is 0.16, not distinguishable from none.
RECORDED_NOISE = np.array([
    (4, 24), (45, 41), (14, 4), (6, 29), (39, 75), (21, -10), (5, -8), (72, -6), (27, -72), (-35, -55), (37, 125),
    (21, -47), (-25, 67), (0, 97), (45, -59), (-44, 12), (19, 37), (-9, -42), (-56, 10), (12, 64), (-14, -85),
    (-73, 36), (69, 52), (11, -58), (-27, 93), (15, 53), (-50, -10), (-171, -1), (89, 61), (-104, -4), (-52, -89),
    (103, -10), (-53, -83), (88, -5), (-16, 25), (58, -31), (-137, 27), (78, 179), (19, 10), (57, -11), (-18, 81),
    (47, -27), (-26, 33), (-25, 105), (-41, -24), (-32, 29), (35, -21), (-28, 5), (6, 24), (-69, -24), (39, -32),
    (-17, 4), (64, 87), (15, 11), (-7, 6), (-30, 37), (-25, -60), (-172, -6), (40, 35), (33, 6)]) / 1e4


def processes(ratios: Sequence[float], self_ratios: Sequence[float] | None = None) -> tuple[Process, ...]:
    """One process a ratio of candidate over baseline, on a machine that holds still."""
    return tuple(Process(log_ratio=log(ratio), self_log_ratio=log(of_itself), readings=STILL)
                 for ratio, of_itself in zip(ratios, self_ratios or [1.0] * len(ratios), strict=True))


def evidence(ratios: Sequence[float], **changes: Any) -> Evidence:
    """Evidence of such processes, as a board would record it."""
    made = Evidence(stamp=BOARD, clock="thread_cpu", baseline=COST, candidate=COST, processes=processes(ratios))
    return replace(made, **changes)


def times(ratio: float, readings: tuple[Reading, Reading] = STILL) -> Times:
    """Four rounds of baseline, baseline again and candidate, without noise."""
    cpu_ms = np.stack([np.full(4, 2.0), np.full(4, 2.0), np.full(4, 2.0 * ratio)])
    return Times(cpu_ms + 0.1, cpu_ms, "onnxruntime 1.24.4", 1, "thread_cpu", 5, readings)
