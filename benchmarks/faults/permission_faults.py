"""Files and folders that a command may not read or write, met without the privileges of root."""

from __future__ import annotations

import ctypes
import os
import shutil
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.commands import run_command
from benchmarks.faults.outcome import Outcome, tally
from benchmarks.faults.run_folders import RUN
from benchmarks.faults.workbench import (
    EXPORT,
    LABELS,
    LIMIT_S,
    PICTURES,
    Door,
    contents,
    doors,
    judged,
    workbench,
)
from edgekp.stage import say

READ_ONLY, LOCKED = 0o500, 0o000
READ_ONLY_FILE = 0o400
FAULTS = (
    ("train", RUN, READ_ONLY),
    ("train", RUN / "train/stage.json", LOCKED),
    ("export", RUN / "export", READ_ONLY),
    ("engine", EXPORT, READ_ONLY),
    ("predictions", LABELS, LOCKED),
    ("predictions", PICTURES / "000001.jpg", LOCKED),
    ("report", Path("out"), READ_ONLY),
    ("mended labels", Path("out"), READ_ONLY),
    ("JSON lines", Path("out/people.jsonl"), READ_ONLY_FILE),
    ("video", Path("out"), READ_ONLY),
)
CAPABILITIES_V3 = 0x20080522


def run(tries: int, seed: int) -> Outcome:
    """Each of the faults in turn."""
    by_name = {door.name: door for door in doors()}
    with workbench() as bench:
        return tally("permission", [_verdict(by_name[name], path, mode, bench)
                                    for name, path, mode in islice(cycle(FAULTS), tries)])


def _verdict(door: Door, path: Path, mode: int, bench: Path) -> str:
    """Refused clearly, everything old is still there, and with the permission it works."""
    with TemporaryDirectory() as scratch:
        os.chdir(shutil.copytree(bench, Path(scratch) / "bench"))
        before, allowed = contents(Path()), path.stat().st_mode
        path.chmod(mode)
        done = run_command(door.main, door.words, LIMIT_S, without_privileges)
        path.chmod(allowed)
        after = contents(Path())
        verdict, why = judged(before, after, done)
        if not why and (again := door.open()).status != 0:
            verdict, why = "lost", f"with the permission: {again.said[-600:]!r}"
        os.chdir(bench)
    if why:
        say(f"faults: permission: {door.name}, {path} is {mode:o}: {verdict}: {why}")
    return verdict


def without_privileges() -> None:
    """Give up what lets root read and write everything: from here on the permissions of files hold for it, too.

    Raises:
        OSError: The system does not let go.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")
