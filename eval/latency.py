"""Latency of models, measured in turn in one fresh process, on the machine that this runs on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekp.errors import EdgekpError
from edgekp.sample import Float

CHECKOUT = Path(__file__).resolve().parents[1]
ROUNDS = 200
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}


@dataclass(frozen=True)
class Times:
    """Times of M models, R calls each; call r of all models happened in the same round.

    Attributes:
        wall_ms, cpu_ms: (M, R), of one ``infer`` with one instance; cpu is the calling thread's own time.
        pinned_to: the core, or None where the system cannot pin.
    """

    wall_ms: Float
    cpu_ms: Float
    pinned_to: int | None


def time_in_fresh_process(folders: Sequence[Path], seed: int, rounds: int = ROUNDS) -> Times:
    """Time the models of artifact folders in turn; a folder named twice is opened twice.

    Raises:
        EdgekpError: A model does not open or does not run.
    """
    command = [sys.executable, "-m", "eval.latency_worker", *(str(folder.resolve()) for folder in folders),
               "--rounds", str(rounds), "--seed", str(seed)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise EdgekpError(f"latency could not be measured: {last}")
    found = json.loads(done.stdout)
    return Times(np.array(found["wall_ns"]) / 1e6, np.array(found["cpu_ns"]) / 1e6, found["pinned_to"])


def percentiles_ms(times_ms: Float) -> dict[str, float]:
    """p50, p90 and p99 of (R,) times."""
    return {name: round(float(np.percentile(times_ms, percent)), 4) for name, percent in PERCENTILES.items()}


def machine() -> str:
    """Processor and cores: what a latency depends on besides the model."""
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
