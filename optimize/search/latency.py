"""What each candidate takes: measured on this machine, or read from the ledger of another that measured the same ones.

A ledger is a JSON file: what was measured (median of one call in each of several fresh processes, by candidate), the
digest of each candidate's architecture, a stamp of the machine, and the seals of ``eval/ledger.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import EdgekpError
from edgekp.json_file import read_json
from edgekp.sample import Float
from edgekp.stage import Key, run_stage, say
from eval.latency import Times, machine, time_in_fresh_process
from eval.ledger import SEALS, checked_signature, ledger_key, seals_of
from eval.machine_stamp import read_machine
from eval.verdict import write_json

FORMAT = "edgekp-search-ledger"
FORMAT_VERSION = 1
VERSION = 1
PROCESSES = 3  # each opens the models anew: what moves between them is no property of a model
ROUNDS = 70
SECONDS = 60.0  # a process
LEDGER = "ledger.json"


@dataclass(frozen=True)
class Latency:
    """Median over processes of the median time of one call, and the least and the largest of these medians."""

    p50_ms: float
    lowest_ms: float
    highest_ms: float


def measure(folders: Mapping[str, Path], digests: Mapping[str, str], folder: Path, *, force: bool) -> Path:
    """Time all candidates in turn, in fresh processes, unless this machine has done so; the ledger of it."""
    settings = {"machine": machine(), "processes": PROCESSES, "rounds": ROUNDS}

    def work(scratch: Path) -> None:
        say(f"search: latency of {len(folders)} candidates, in turn, in {PROCESSES} processes")
        found = [time_in_fresh_process(list(folders.values()), seed, ROUNDS, SECONDS) for seed in range(PROCESSES)]
        p50_ms = np.round(np.array([np.median(_time_of_call_ms(times), axis=1) for times in found]), 4).T
        stamp = {**asdict(read_machine()), "runtime": found[0].runtime, "threads": found[0].threads,
                 "clock": found[0].clock}
        write_ledger(scratch / LEDGER, stamp, {name: {"sha256": digests[name], "p50_ms": times} for name, times in
                                               zip(folders, p50_ms.tolist(), strict=True)})

    run_stage(folder, Key("search latency", VERSION, settings, dict(digests)), work, force=force)
    return folder / LEDGER


def write_ledger(path: Path, stamp: dict[str, Any], candidates: dict[str, Any]) -> None:
    """Seal what was measured, and sign it where the environment has a key."""
    body = {"format": FORMAT, "version": FORMAT_VERSION, "machine": stamp, "candidates": candidates}
    write_json(path, body | dict(zip(SEALS, seals_of(body, ledger_key()), strict=True)))


def read_ledger(path: Path, digests: Mapping[str, str]) -> tuple[dict[str, Latency], str]:
    """The latency of each candidate, and what it was measured on.

    Raises:
        EdgekpError: No such ledger, changed since it was written, or of other candidates.
    """
    document = read_json(path)
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, FORMAT_VERSION):
        raise EdgekpError(f"{path}: not an {FORMAT} of version {FORMAT_VERSION}; record it with --record")
    body = {name: value for name, value in document.items() if name not in SEALS}
    signature = checked_signature(path, body, document, ledger_key())
    try:
        recorded = {str(name): (str(entry["sha256"]), [float(time_ms) for time_ms in entry["p50_ms"]])
                    for name, entry in body["candidates"].items()}
        stamp = body["machine"]
        where = f"{stamp['board'] or stamp['processor']}, {stamp['runtime']}, ledger {signature}"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EdgekpError(f"{path}: lacks what a ledger holds ({error}); record it again") from error
    _require_candidates(path, {name: digest for name, (digest, _) in recorded.items()}, digests)
    if not all(times and all(isfinite(time_ms) and time_ms > 0 for time_ms in times) for _, times in recorded.values()):
        raise EdgekpError(f"{path}: holds a time that is none; record it again")
    return {name: _summed_up(recorded[name][1]) for name in digests}, where


def _require_candidates(path: Path, recorded: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Refuse the ledger of another search; more candidates than needed do no harm."""
    missing = [name for name in digests if name not in recorded]
    other = [name for name in digests if name in recorded and recorded[name] != digests[name]]
    if missing or other:
        what = f"lacks {', '.join(missing)}" if missing else f"is of other networks called {', '.join(other)}"
        raise EdgekpError(f"{path}: {what}; record it on the board with the same recipe, target and edgekp: "
                          "python -m optimize.search --measure-only --record FILE")


def _time_of_call_ms(times: Times) -> Float:
    """By the clock of the latency gate: on a busy machine, wall time tells more of the others than of a call."""
    return times.cpu_ms if times.clock == "thread_cpu" else times.wall_ms


def _summed_up(p50_ms: list[float]) -> Latency:
    return Latency(float(np.median(p50_ms)), min(p50_ms), max(p50_ms))
