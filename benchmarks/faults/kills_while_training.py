"""``python -m train`` killed once to three times, then run to its end: bit for bit the run that was never stopped?

What is compared is every file of the result: weights, manifest, golden vectors, history and curves.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.outcome import Outcome, tally
from benchmarks.faults.run_folders import RUN, differences, digests, names, really_run, write_recipe
from benchmarks.faults.warm_commands import Command, Ended, WarmCommands, kill_group, moment_of
from edgekp.stage import say

FAULT = "kill-training"
MODULES = ("train.__main__", "matplotlib.backends.backend_agg", "matplotlib.figure")
MOST_KILLS = 3  # of one run
START_S = 0.3
ORPHANS_S = 15.0  # PyTorch's workers look for their parent every five seconds
MOMENTS = {  # files that are touched then, and about how often
    "drawing": (r"/\.data\.", 20), "saving": (r"partial\.safetensors", 8), "validating": (r"images/val/", 16),
    "publishing": (r"/\.train\.", 40)}
TIMES = ("at the start", "at any time", "at any time", "without its workers")


@dataclass(frozen=True)
class Undisturbed:
    """A run that was left alone.

    Attributes:
        seconds: that a warm process takes for it.
    """

    folder: Path
    recipe: Path
    trained: dict[str, str]
    names: set[str]
    seconds: float


def run(count: int, seed: int) -> Outcome:
    """``count`` kills, spread over as many runs as it takes."""
    rng, verdicts, number = random.Random(seed), list[str](), 0
    with TemporaryDirectory() as name, WarmCommands(MODULES) as commands:
        undisturbed = leave_alone(Path(name), commands)
        while len(verdicts) < count:
            number += 1
            folder = Path(name) / f"run-{number}"
            kills, problem = kill_and_finish(commands, undisturbed, folder, min(MOST_KILLS, count - len(verdicts)), rng)
            verdict, said = problem or ("survived", "")
            if said:
                say(f"faults: {FAULT}: run {number}: {said}")
            verdicts += [verdict] * (max(1, kills) if problem else kills)
            shutil.rmtree(folder)
    return tally(FAULT, verdicts)


def leave_alone(place: Path, commands: WarmCommands) -> Undisturbed:
    """Train as a user does, then in a warm process for its time; that both agree is what makes the kills count."""
    recipe, folders = write_recipe(place, instances=16, epochs=5), (place / "cold", place / "warm")
    for folder in folders:
        folder.mkdir()
    really_run(folders[0], "train", "--recipe", str(recipe))
    _give_data(folders[0], folders[1])
    start = time.monotonic()
    ended = commands.run(folders[1], "train", "--recipe", str(recipe))
    seconds = time.monotonic() - start
    trained, again = (digests(folder / RUN / "train") for folder in folders)
    if differing := differences(trained, again):
        raise RuntimeError(f"python -m train and the same in a warm process disagree: {differing}: {ended.said}")
    return Undisturbed(folders[0], recipe, trained, names(folders[0] / RUN), seconds)


def kill_and_finish(commands: WarmCommands, undisturbed: Undisturbed, folder: Path, most: int,
                    rng: random.Random) -> tuple[int, tuple[str, str] | None]:
    """How many kills one run took, and what was wrong with it: a verdict, and a line that says why."""
    folder.mkdir()
    if rng.random() < 0.7:  # else it is drawn, and perhaps killed while it is
        _give_data(undisturbed.folder, folder)
    arguments = ("--recipe", str(undisturbed.recipe), "--resume", "--set", f"train.workers={rng.choice((0, 0, 2))}")
    result, killed = folder / RUN / "train", list[Command]()
    for _ in range(rng.randint(1, most)):
        command, ended, how = _kill(commands, folder, arguments, undisturbed.seconds, rng)
        if ended.killed:
            killed.append(command)
        elif ended.code:
            return len(killed), ("lost", f"{how}: exit {ended.code}: {ended.said[-400:]}")
        if digests(result) not in ({}, undisturbed.trained):
            return len(killed), ("silent", f"{how}: half a result was published")
    if problem := _stopped_badly(commands, folder, arguments, undisturbed.seconds, rng):
        return len(killed), problem
    ended = commands.run(folder, "train", *arguments)
    if ended.code != 0:
        return len(killed), ("lost", f"cannot go on: exit {ended.code}: {ended.said[-400:]}")
    if differing := differences(digests(result), undisturbed.trained):
        return len(killed), ("silent", f"the result is not that of a run that was left alone: {differing}")
    if left := names(folder / RUN) ^ undisturbed.names:
        return len(killed), ("lost", f"left behind or missing: {', '.join(sorted(left)[:3])}")
    if orphans := _orphans(killed):
        return len(killed), ("lost", f"{len(orphans)} processes outlive their run")
    return len(killed), None


def _kill(commands: WarmCommands, folder: Path, arguments: tuple[str, ...], seconds: float,
          rng: random.Random) -> tuple[Command, Ended, str]:
    """Start a command and kill it; its last word, and when that was. It may end before."""
    is_drawn = (folder / RUN / "data").exists()
    how = rng.choice((*(name for name in MOMENTS if not (is_drawn and name == "drawing")), *TIMES))
    if how in MOMENTS:
        pattern, most = MOMENTS[how]
        command = commands.start(folder, "train", *arguments, moment=moment_of(pattern, most, rng))
        return command, command.wait(), how
    command = commands.start(folder, "train", *arguments)
    time.sleep(rng.uniform(0, START_S if how == "at the start" else seconds))
    if how == "without its workers":
        os.kill(command.pid, signal.SIGKILL)
    else:
        kill_group(command.pid)
    return command, command.wait(), how


def _stopped_badly(commands: WarmCommands, folder: Path, arguments: tuple[str, ...], seconds: float,
                   rng: random.Random) -> tuple[str, str] | None:
    """After kills, in half of the runs: Ctrl-C, or SIGTERM as a batch system sends it, to all processes at once."""
    number = rng.choice((None, None, signal.SIGINT, signal.SIGTERM))
    if number is None:
        return None
    command = commands.start(folder, "train", *arguments)
    time.sleep(rng.uniform(0, seconds))
    kill_group(command.pid, number)
    ended = command.wait()
    if ended.code in {0, 130, -number}:  # the last one before or after the work, when nothing is to be saved
        return None
    return "lost", f"{number.name}: exit {ended.code}: {ended.said[-400:]}"


def _orphans(killed: list[Command]) -> list[int]:
    """Workers that do not notice that their parent is gone."""
    until = time.monotonic() + ORPHANS_S
    while (left := [pid for command in killed for pid in command.left_behind()]) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def _give_data(source: Path, folder: Path) -> None:
    shutil.copytree(source / RUN / "data", folder / RUN / "data")
