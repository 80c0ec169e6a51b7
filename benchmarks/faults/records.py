"""One experiment in a process of its own, and what is kept of it. Knows no fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.faults.experiments import Experiment
from benchmarks.faults.outcome import Outcome
from edgekp.stage import say

ROOT = Path(__file__).resolve().parents[2]
CODE = ("edgekp", "train", "optimize", "deploy", "eval", "benchmarks/faults", "tests")
ONE = ["-m", "benchmarks.faults.one"]
LONGEST_S = 3600.0  # of one experiment; then it hangs
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """How an experiment is to be run; the digest of all code belongs to it, so that no old answer is believed."""

    tries: int
    seed: int
    code: str


def code_digest() -> str:
    """Of every source file that the experiments may run."""
    digest = sha256()
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def is_answered(row: Row | None, asked: Asked) -> bool:
    """Whether an earlier run of the very same went well; what failed is worth another try."""
    return (row is not None and (row.get("tried"), row.get("seed"), row.get("code")) == tuple(asdict(asked).values())
            and row["lost"] == row["silent"] == 0)


def row_of(experiment: Experiment, asked: Asked) -> Row:
    """Run an experiment, and beside it what the usual libraries do, where somebody wrote that down."""
    start = time.monotonic()
    found = outcome_of(experiment, experiment.function, asked)
    row = asdict(found) | {"fault": experiment.fault, "seed": asked.seed, "code": asked.code,
                           "seconds": round(time.monotonic() - start, 1)}
    if experiment.usual:
        usual = outcome_of(experiment, experiment.usual, asked, is_quiet=True)
        row |= {"usual_way": experiment.usual_way, "usual_tried": usual.tried, "usual_lost": usual.lost,
                "usual_silent": usual.silent}
    say(f"faults: {experiment.fault}: {found.survived} of {found.tried} survived in {row['seconds']:.0f} s")
    return row


def outcome_of(experiment: Experiment, function: str, asked: Asked, *, longest_s: float = LONGEST_S,
               is_quiet: bool = False) -> Outcome:
    """What one function finds; all tries are lost where it crashes, hangs, or does not do as many as asked."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "outcome.json"
        arguments = [experiment.fault, function, str(asked.tries), str(asked.seed), str(out)]
        reason = _why_it_failed([sys.executable, *ONE, *arguments], longest_s, is_quiet)
        if reason is None and not out.exists():
            reason = "it left no outcome"
        found = Outcome(**json.loads(out.read_bytes())) if reason is None else None
    if found is not None and found.tried != asked.tries:
        reason = f"made {found.tried} tries, {asked.tries} were asked for"
    if found is None or reason:
        say(f"faults: {experiment.fault}: LOST as a whole: {reason}")
        return Outcome(experiment.fault, asked.tries, 0, asked.tries, 0)
    return found


def _why_it_failed(command: list[str], longest_s: float, is_quiet: bool) -> str | None:
    """Run it in a session of its own, so that nothing it started outlives it; its standard output is not ours."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True,
                               stderr=subprocess.DEVNULL if is_quiet else None)
    try:
        status = process.wait(longest_s)
    except subprocess.TimeoutExpired:
        return f"not done after {longest_s:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"its process ended with {status}; what it said is above" if status else None
