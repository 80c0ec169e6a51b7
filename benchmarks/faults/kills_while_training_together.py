"""Training in two processes of which one is killed, or both: does the other end, and the next start go on bit for bit?

The processes are started as ``torchrun`` starts them, by its environment variables, but without its agent: nobody tells
the one that is left. With the agent, see ``tests/train/test_torchrun.py``.
"""

from __future__ import annotations

import random
import shutil
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.outcome import Outcome, tally
from benchmarks.faults.run_folders import RUN, differences, digests, write_recipe
from benchmarks.faults.warm_commands import Command, Ended, WarmCommands, kill_group
from edgekp.stage import say

FAULT = "kill-training-together"
MODULES = ("train.__main__", "matplotlib.backends.backend_agg", "matplotlib.figure")
SIZE = 2
VICTIMS = ((0,), (1,), (0, 1))
ENDS = {0, 2}  # of the one that is left: it was done already, or says that it lost the other


@dataclass(frozen=True)
class Undisturbed:
    """A run of two processes that was left alone."""

    folder: Path
    recipe: Path
    trained: dict[str, str]
    seconds: float


def run(count: int, seed: int) -> Outcome:
    """``count`` times: kill the first process, the second, or both, in turn, and start again."""
    rng, verdicts = random.Random(seed), list[str]()
    with TemporaryDirectory() as name, WarmCommands(MODULES) as commands:
        undisturbed = leave_alone(Path(name), commands)
        for number in range(count):
            folder = Path(name) / f"run-{number}"
            shutil.copytree(undisturbed.folder / RUN / "data", folder / RUN / "data")
            verdict, said = kill_and_go_on(commands, undisturbed, folder, VICTIMS[number % len(VICTIMS)], rng)
            if said:
                say(f"faults: {FAULT}: run {number}: {said}")
            verdicts.append(verdict)
    return tally(FAULT, verdicts)


def leave_alone(place: Path, commands: WarmCommands) -> Undisturbed:
    recipe, folder = write_recipe(place, instances=16, epochs=8), place / "alone"
    folder.mkdir()
    for drawn in (False, True):  # all later runs find the data there, too, so that this is their time
        shutil.rmtree(folder / RUN / "train", ignore_errors=True)
        start = time.monotonic()
        ends = [command.wait() for command in start_both(commands, folder, recipe)]
        seconds = time.monotonic() - start
        if any(ended.code for ended in ends):
            raise RuntimeError(f"without any kill, data {'there' if drawn else 'to be drawn'}: {_told(ends)}")
    return Undisturbed(folder, recipe, digests(folder / RUN / "train"), seconds)


def start_both(commands: WarmCommands, folder: Path, recipe: Path) -> list[Command]:
    """One process of each rank, which meet at a port that is free."""
    with closing(socket.create_server(("127.0.0.1", 0))) as door:
        port = door.getsockname()[1]
    common = {"WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [commands.start(folder, "train", "--recipe", str(recipe), "--resume", log=f"rank-{rank}.txt",
                           environment=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(SIZE)]


def kill_and_go_on(commands: WarmCommands, undisturbed: Undisturbed, folder: Path, victims: tuple[int, ...],
                   rng: random.Random) -> tuple[str, str]:
    """A verdict on one run, and where it is not 'survived' a line that says why."""
    both, result = start_both(commands, folder, undisturbed.recipe), folder / RUN / "train"
    time.sleep(rng.uniform(0, undisturbed.seconds))
    for rank in victims:
        kill_group(both[rank].pid)
    for rank in (*victims, *(set(range(SIZE)) - set(victims))):
        ended = both[rank].wait()
        if rank not in victims and ended.code not in ENDS:
            kill_group(both[rank].pid)
            return "lost", f"rank {rank} is left and ends with {ended.code}: {ended.said[-400:]}"
    if digests(result) not in ({}, undisturbed.trained):
        return "silent", "half a result was published"
    ends = [command.wait() for command in start_both(commands, folder, undisturbed.recipe)]
    if any(ended.code for ended in ends):
        return "lost", f"cannot go on: {_told(ends)}"
    if differing := differences(digests(result), undisturbed.trained):
        return "silent", f"the result is not that of a run that was left alone: {differing}"
    return "survived", ""


def _told(ends: list[Ended]) -> str:
    return "; ".join(f"exit {ended.code}: {ended.said[-400:]}" for ended in ends)
