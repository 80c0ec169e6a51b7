"""Latency of models on the machine that this runs on, measured in fresh processes. Knows no limit and no verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import EdgekpError
from edgekp.sample import Float
from eval.energy import has_sensor
from eval.machine_stamp import Reading, processor

CHECKOUT = Path(__file__).resolve().parents[1]
ROUNDS = 200
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
ENERGY_SECONDS = 2.0  # twenty readings of the sensor


@dataclass(frozen=True)
class Times:
    """Times of M models, R calls each; call r of all models happened in the same round.

    Attributes:
        wall_ms, cpu_ms: (M, R), of one ``infer`` with one instance; cpu is the calling thread's own time.
        runtime: its name and version.
        clock: which of the times tells how much work a call is; ``thread_cpu`` where the calling thread does it.
        pinned_core: None where the system cannot pin.
        readings: of the machine's sensors before the first and after the last round.
    """

    wall_ms: Float
    cpu_ms: Float
    runtime: str
    threads: int
    clock: str
    pinned_core: int | None
    readings: tuple[Reading, Reading]


@dataclass(frozen=True)
class Alone:
    """What can be told of a model only while nothing else runs.

    Attributes:
        peak_memory_bytes: of a process that opens and runs the model, Python and the runtime included.
        energy_mj: of the whole board in one call, called again and again; idle power included. None without a sensor.
    """

    peak_memory_bytes: int | None
    energy_mj: float | None


def time_in_fresh_process(folders: Sequence[Path], seed: int, rounds: int = ROUNDS, seconds: float = inf) -> Times:
    """Time the models of artifact folders in turn; a folder named twice is opened twice.

    Args:
        seconds: fewer rounds where this many seconds do not hold all, but never fewer than 20.

    Raises:
        EdgekpError: A model does not open or does not run.
    """
    found = _ask_worker("in-turn", folders, "--rounds", str(rounds), "--seed", str(seed), "--seconds", str(seconds))
    before, after = (Reading(**reading) for reading in found["readings"])
    return Times(np.array(found["wall_ns"]) / 1e6, np.array(found["cpu_ns"]) / 1e6, found["runtime"], found["threads"],
                 found["clock"], found["pinned_core"], (before, after))


def measure_alone(folder: Path) -> Alone:
    """Memory and energy of one model in a fresh process of its own.

    Raises:
        EdgekpError: The model does not open or does not run.
    """
    return Alone(**_ask_worker("alone", [folder], "--seconds", str(ENERGY_SECONDS if has_sensor() else 0.0)))


def percentiles_ms(times_ms: Float) -> dict[str, float]:
    """p50, p90 and p99 of (R,) times."""
    return {name: round(float(np.percentile(times_ms, percent)), 4) for name, percent in PERCENTILES.items()}


def machine() -> str:
    """Processor and cores: what a latency depends on besides the model."""
    return f"{processor()}, {os.cpu_count()} cores"


def _ask_worker(task: str, folders: Sequence[Path], *options: str) -> dict[str, Any]:
    """What ``eval.latency_worker`` prints."""
    command = [sys.executable, "-m", "eval.latency_worker", task, *(str(folder.resolve()) for folder in folders)]
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise EdgekpError(f"latency could not be measured: {last}; mend that and run it again")
    return dict(json.loads(done.stdout))
