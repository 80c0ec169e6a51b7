"""The clock of all benchmarks: two functions in turn in one run, so that a busy machine is as busy for both."""

from __future__ import annotations

import gc
from collections.abc import Callable
from math import ceil, inf
from time import process_time
from typing import Any

ROUND_SECONDS = 0.01  # a round repeats short calls until the clock's own cost and resolution vanish
Work = Callable[[], object]


def compare(name: str, ours: Work, alternative_name: str, alternative: Work, *, units: int = 1,
            rounds: int = 15) -> dict[str, Any]:
    """One record: both times, of one unit where a call does ``units`` at once, and how many times faster ours is."""
    ours_us, alternative_us = (us / units for us in in_turn(ours, alternative, rounds))
    return {"name": name, "ours_us": ours_us, "alternative": alternative_name, "alternative_us": alternative_us,
            "ratio": alternative_us / ours_us}


def in_turn(ours: Work, alternative: Work, rounds: int = 15) -> tuple[float, float]:
    """CPU time of one call of each, microseconds: the best of the rounds, in each of which both have their turn."""
    works = ours, alternative
    calls = [_calls_in_a_round(work) for work in works]
    best = [inf, inf]
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            best = [min(least, _us_a_call(work, n)) for least, work, n in zip(best, works, calls, strict=True)]
    finally:
        if collects:
            gc.enable()
    return best[0], best[1]


def _calls_in_a_round(work: Work) -> int:
    """As many calls as fill a round; the first one, which may compile or load, is not timed."""
    work()
    return ceil(ROUND_SECONDS * 1e6 / max(_us_a_call(work, 1), 1.0))


def _us_a_call(work: Work, calls: int) -> float:
    start = process_time()
    for _ in range(calls):
        work()
    return (process_time() - start) / calls * 1e6
