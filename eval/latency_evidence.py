"""What a verdict on latency rests on: numbers of fresh processes, of each model and of the machine. Knows no rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np

from edgekp.artifact import Artifact
from edgekp.sample import Float
from eval.latency import Alone, Times, percentiles_ms
from eval.machine_stamp import Machine, Reading, Stamp, movement


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Of the times of one call, in milliseconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class CallCost:
    """What one model takes; see ``eval.latency.Alone`` for memory and energy."""

    wall_ms: Percentiles
    cpu_ms: Percentiles
    size_bytes: int
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None


@dataclass(frozen=True, kw_only=True)
class Process:
    """What one fresh process says.

    Attributes:
        log_ratio: of candidate over baseline.
        self_log_ratio: of the baseline's second copy over its first.
        readings: of the machine's sensors, before and after.
    """

    log_ratio: float
    self_log_ratio: float
    readings: tuple[Reading, Reading]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a verdict rests on.

    Attributes:
        clock: the time that the ratios are of, see ``eval.latency.Times``.
        machine_changes: settings that were others when it ended.
    """

    stamp: Stamp
    clock: str
    baseline: CallCost
    candidate: CallCost
    processes: tuple[Process, ...]
    machine_changes: tuple[str, ...] = ()

    @property
    def unsteady(self) -> str | None:
        """Why the machine cannot be said to have held still."""
        if self.machine_changes:
            return f"the machine was changed meanwhile ({'; '.join(self.machine_changes)})"
        return movement(list(chain.from_iterable(process.readings for process in self.processes)))


def process_of(times: Times) -> Process:
    """The typical ratios of one process; ``times`` are those of baseline, baseline again and candidate.

    Each ratio is a median over rounds. The candidate is held against both copies of the baseline, and the two medians
    are averaged: a fifth less noise than against one, and uncorrelated with the self-check. The median against the
    *mean* of both would be off by 0.2 %, because times are skewed.
    """
    baseline, again, candidate = np.log(times.cpu_ms)
    log_ratio = (np.median(candidate - baseline) + np.median(candidate - again)) / 2
    return Process(log_ratio=float(log_ratio), self_log_ratio=float(np.median(again - baseline)),
                   readings=times.readings)


def evidence_of(times: Sequence[Times], artifacts: Sequence[Artifact], alone: Sequence[Alone], before: Machine,
                after: Machine) -> Evidence:
    """Evidence from the times of baseline, baseline again and candidate in each process.

    Args:
        artifacts, alone: of baseline and candidate.
        before, after: the machine, when the measurement began and ended.
    """
    first = times[0]
    stamp = Stamp(**asdict(before), runtime=first.runtime, threads=first.threads, pinned_core=first.pinned_core)
    baseline, candidate = (_cost(artifact, found, times, model)
                           for artifact, found, model in zip(artifacts, alone, (0, 2), strict=True))
    return Evidence(stamp=stamp, clock=first.clock, baseline=baseline, candidate=candidate,
                    processes=tuple(process_of(entry) for entry in times),
                    machine_changes=tuple(before.differences(after)))


def _cost(artifact: Artifact, alone: Alone, times: Sequence[Times], model: int) -> CallCost:
    def percentiles(of_processes: list[Float]) -> Percentiles:
        return Percentiles(**percentiles_ms(np.concatenate([entry[model] for entry in of_processes])))

    return CallCost(wall_ms=percentiles([entry.wall_ms for entry in times]),
                    cpu_ms=percentiles([entry.cpu_ms for entry in times]),
                    size_bytes=artifact.size_bytes, **asdict(alone))
