"""What the samples of a soak must show: memory and latency flat, all accounts equal, everything given back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.soak.samples import Held
from edgekp.sample import Float

JUDGED_SHARE = 0.8  # of the run: before, caches and buffers fill
SHORTEST_S = 600  # a run in which a slope can be told from a start
BLOCK_S = 30  # one round of the crowd's turns: blocks are alike
MOST_MB_PER_10_MIN, MOST_GROWTH_PERCENT = 1.0, 5.0
MOST_SLOWER_PERCENT_PER_10_MIN = 1.0
LATENCIES = ("pre", "infer", "decode", "draw", "end_to_end")
Sample = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One number, and the most that it may be; without ``limit`` it is there to be known."""

    check: str
    value: float
    unit: str
    limit: float | None = None
    reason: str = ""

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "told"
        return "pass" if self.value <= self.limit else "FAIL"  # NaN never passes

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def line(check: Check) -> str:
    limit = "" if check.limit is None else f"at most {check.limit:g}"
    return f"{check.check:54} {check.value:12.4f} {check.unit:22} {limit:14} {check.verdict}  {check.reason}".rstrip()


def memory(samples: Sequence[Sample]) -> list[Check]:
    """What is in use must be level. The resident set sways by what glibc keeps between pictures of changing sizes, so
    its slope is judged by the lower end of its interval, and its growth as a whole.
    """
    judged, long = _judged(samples), _long_enough(samples)
    in_use, _, most_in_use = _slope(judged, "in_use_mb")
    resident, least, most = _slope(judged, "rss_mb")
    tail = max(1, len(judged) // 10)
    rss_mb = [sample["rss_mb"] for sample in judged]
    growth = 100 * float(np.median(rss_mb[-tail:]) / np.median(rss_mb[:tail]) - 1)
    limit = MOST_MB_PER_10_MIN if long else None
    return [Check("memory: slope of what is in use", in_use, "MB per 10 min", limit if np.isfinite(in_use) else None,
                  f"at most {most_in_use:.2f} with 95 %"),
            Check("memory: least slope of the resident set", least, "MB per 10 min", limit,
                  f"slope {resident:+.2f}, at most {most:+.2f} with 95 %"),
            Check("memory: growth, last tenth over first", growth, "%", MOST_GROWTH_PERCENT if long else None),
            Check("memory: slope of Python's blocks", _slope(judged, "blocks")[0], "per 10 min"),
            Check("memory: most", max(sample["rss_mb"] for sample in samples), "MB")]


def _slope(samples: Sequence[Sample], what: str) -> tuple[float, float, float]:
    found = np.array([[sample["second"], sample[what]] for sample in samples], dtype=np.float64)
    return slope_per_10_min(found[:, 0], found[:, 1])


def latency(samples: Sequence[Sample]) -> list[Check]:
    """The slope of each stage's p50 and p95, in units of the reference work of the same time.

    Judged by the lower end of the slope's interval: what cannot be told from level passes, and its reason says how
    steep it might be.
    """
    checks = []
    long = _long_enough(samples)
    for stage in LATENCIES:
        for index, name in enumerate(("p50", "p95")):
            found = np.array([[sample["second"], sample["ms"][stage][index] / sample["reference_ms"],
                               sample["ms"][stage][index]] for sample in _judged(samples) if stage in sample["ms"]])
            if len(found) < 2:
                continue
            middle = 100 / np.median(found[:, 1])
            slope, low, high = (middle * value for value in slope_per_10_min(found[:, 0], found[:, 1]))
            checks.append(Check(f"latency: {stage.replace('_', ' ')} {name}, least slope", low, "% per 10 min",
                                MOST_SLOWER_PERCENT_PER_10_MIN if long else None,
                                f"slope {slope:+.2f}, at most {high:+.2f}; median {np.median(found[:, 2]):.2f} ms"))
    return checks


def slope_per_10_min(seconds: Float, values: Float) -> tuple[float, float, float]:
    """Theil-Sen slope of the blocks' medians, with its 95 % interval."""
    from scipy.stats import theilslopes

    block = (seconds // BLOCK_S).astype(int)
    if len(np.unique(block)) < 4:
        block = np.arange(len(seconds))
    middles = [(np.median(seconds[block == one]), np.median(values[block == one])) for one in np.unique(block)]
    at_s, level = np.array(middles).T
    found = theilslopes(level, at_s, 0.95)
    return 600 * float(found[0]), 600 * float(found[2]), 600 * float(found[3])


def given_back(before: Held, after: Held, pool: int) -> list[Check]:
    """Args: pool: threads that OpenCV keeps once it has them."""
    return [Check("given back: threads more than before", after.threads - before.threads, "threads", 0),
            Check("given back: tasks more than before", after.tasks - before.tasks, "tasks", pool,
                  "OpenCV keeps its pool"),
            Check("given back: open files more than before", after.files - before.files, "files", 0)]


def held_during(samples: Sequence[Sample], most_threads: int) -> list[Check]:
    return [Check("during: threads", max(sample["threads"] for sample in samples), "threads", most_threads),
            Check("during: longest time without a finished frame", _longest_pause(samples), "s")]


def accounts(differences: dict[str, int]) -> list[Check]:
    return [Check(f"accounts: {what}", abs(count), "differences", 0) for what, count in differences.items()]


def _longest_pause(samples: Sequence[Sample]) -> float:
    alive = [sample["second"] for sample in samples if sample["ms"]]
    return float(max((later - sooner - 1 for sooner, later in pairwise(alive)), default=0))


def _judged(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[int((1 - JUDGED_SHARE) * len(samples)):]


def _long_enough(samples: Sequence[Sample]) -> bool:
    return len(samples) >= SHORTEST_S
