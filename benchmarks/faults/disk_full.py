"""A disk that is full when a command writes to it: a small tmpfs, filled up to what is left for the new result.

Where file systems cannot be mounted, files cannot grow beyond that instead, which fails at the same calls.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.commands import Done, run_command
from benchmarks.faults.outcome import Outcome, tally
from benchmarks.faults.records import ROOT
from benchmarks.faults.workbench import LIMIT_S, Door, contents, doors, judged, workbench
from edgekp.stage import say

SIZE = "32m"
ROOMS = (0.0, 0.5)  # of what the command wrote when there was room
MOUNTED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
           f'mount -t tmpfs -o size={SIZE} tmpfs "$0" && exec "$@"')  # gone with the process


def run(tries: int, seed: int) -> Outcome:
    """Every command on a disk without room, and on one where half of its result fits."""
    with workbench() as bench, TemporaryDirectory() as disk:
        mounted = (*MOUNTED, disk) if _works((*MOUNTED, disk, "true")) else ()
        if not mounted:
            say("faults: no file system may be mounted here; a limit on the size of files takes its place")
        words = (str(bench), disk, str(tries), str(seed))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        told = subprocess.run([*mounted, sys.executable, "-m", __spec__.name, *words], env=environment, check=True,
                              stdout=subprocess.PIPE).stdout
    return tally("disk-full", json.loads(told))


def _works(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _on_this_disk(bench: Path, disk: Path, tries: int, seed: int) -> list[str]:
    chosen = list(product(doors(), ROOMS))
    random.Random(seed).shuffle(chosen)
    is_small = disk.is_mount()
    return [_verdict(door, room, bench, disk / str(number), is_small)
            for number, (door, room) in enumerate(islice(cycle(chosen), tries))]


def _verdict(door: Door, room: float, bench: Path, folder: Path, is_small: bool) -> str:
    """Refused clearly, everything old is still there, and with room again it works."""
    shutil.copytree(bench, folder)
    os.chdir(folder)
    wanted = contents(door.writes)
    if door.streams:
        door.writes.unlink()  # lines replace those of the run before from the first on
    before = contents(Path())
    done = _without_room(door, folder, int(room * sum(map(len, wanted.values()))), is_small)
    after = contents(Path())
    verdict, why = judged(before, after, done)
    if not why and door.streams and not _is_cut_between_lines(door.writes, wanted):
        verdict, why = "silent", "a line is cut"
    if not why and (again := door.open()).status != 0:
        verdict, why = "lost", f"with room again: {again.said[-600:]!r}"
    if why:
        say(f"faults: disk-full: {door.name}, room for {room:.0%}: {verdict}: {why}")
    os.chdir("/")
    shutil.rmtree(folder)
    return verdict


def _without_room(door: Door, folder: Path, left: int, is_small: bool) -> Done:
    if not is_small:
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))
        return run_command(door.main, door.words, LIMIT_S, limit)
    ballast = folder.with_suffix(".ballast")
    facts = os.statvfs(folder)
    ballast.write_bytes(bytes(max(0, facts.f_bavail * facts.f_frsize - left)))
    try:
        return door.open()
    finally:
        ballast.unlink()


def _is_cut_between_lines(path: Path, wanted: dict[str, bytes]) -> bool:
    found, whole = path.read_bytes() if path.exists() else b"", b"".join(wanted.values())
    return whole.startswith(found) and (not found or found.endswith(b"\n"))


if __name__ == "__main__":
    print(json.dumps(_on_this_disk(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
