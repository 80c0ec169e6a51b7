"""Kill -9 while a file, or a folder of weights and manifest, is saved again and again, at a random moment.

A save that was confirmed must be there afterwards, or the one that was begun after it, whole. Nothing is cleaned
between the kills: each saver meets what the ones before it left.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from benchmarks.faults.outcome import Outcome, tally
from edgekp.atomic import published_folder, restore_retired, write_file

FAULT = "kill-save"
SIZE = 1 << 20  # of the weights, bytes
LONGEST_S = 0.05  # from the first save that was confirmed to the kill: several saves


@dataclass(frozen=True)
class Saver:
    """A way to save versions, and to find which one is there: None where it is not whole."""

    save: Callable[[Path, int], object]
    found: Callable[[Path], int | None]


def run(count: int, seed: int) -> Outcome:
    """Saves as edgekp makes them."""
    return _kills(count, seed, (Saver(_publish_file, _version_in_file), Saver(_publish_folder, _version_in_folder)))


def run_in_place(count: int, seed: int) -> Outcome:
    """Saves that write over what is there, as the usual libraries do."""
    return _kills(count, seed, (Saver(_overwrite_file, _version_in_file), Saver(_fill, _version_in_folder)))


def kill_one(saver: Saver, path: Path, first: int, delay_s: float) -> tuple[str, int]:
    """Kill a process that saves versions from ``first`` on; the verdict, and the last version that was begun."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        _save_forever(saver, path, first, writing)
    os.close(writing)
    with os.fdopen(reading) as told:
        lines = told.readline()  # one save is confirmed before the clock starts
        time.sleep(delay_s)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        confirmed = int((lines + told.read()).split()[-1])
    found = saver.found(path)
    if found is None:
        return "lost", confirmed + 1
    return "survived" if found in (confirmed, confirmed + 1) else "silent", confirmed + 1


def _kills(count: int, seed: int, savers: tuple[Saver, Saver]) -> Outcome:
    """Files and folders in turn."""
    rng, verdicts, begun = random.Random(seed), list[str](), 0  # versions of both grow together
    with TemporaryDirectory() as name:
        for number in range(count):
            saver, path = savers[number % 2], Path(name) / ("file", "folder")[number % 2]
            verdict, begun = kill_one(saver, path, begun + 1, rng.uniform(0, LONGEST_S))
            verdicts.append(verdict)
    return tally(FAULT, verdicts)


def _save_forever(saver: Saver, path: Path, first: int, told: int) -> NoReturn:
    try:
        for version in numbers(first):
            saver.save(path, version)
            os.write(told, f"{version}\n".encode())
    finally:
        os._exit(1)


def weights_of(version: int) -> bytes:
    """Bytes that belong to this version alone."""
    return version.to_bytes(8, "big") + random.Random(version).randbytes(SIZE)


def _manifest_of(version: int) -> str:
    return json.dumps({"version": version, "sha256": hashlib.sha256(weights_of(version)).hexdigest()})


def _publish_file(path: Path, version: int) -> None:
    write_file(path, weights_of(version))


def _publish_folder(folder: Path, version: int) -> None:
    with published_folder(folder) as scratch:
        write_file(scratch / "weights", weights_of(version))
        write_file(scratch / "manifest", _manifest_of(version))


def _overwrite_file(path: Path, version: int) -> None:
    path.write_bytes(weights_of(version))


def _fill(folder: Path, version: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(weights_of(version))
    (folder / "manifest").write_text(_manifest_of(version))


def _version_in_file(path: Path) -> int | None:
    data = path.read_bytes() if path.is_file() else b""
    version = int.from_bytes(data[:8], "big")
    return version if data == weights_of(version) else None


def _version_in_folder(folder: Path) -> int | None:
    restore_retired(folder)  # as everything does that reads the result of a stage
    version = _version_in_file(folder / "weights")
    if version is None or (folder / "manifest").read_text() != _manifest_of(version):
        return None
    return version
