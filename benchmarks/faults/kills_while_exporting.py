"""``python -m optimize`` and ``python -m deploy.export`` killed: what do later stages believe, what mends a rerun?

Half of the kills meet an earlier result of other settings. After each, every result that is published must be the
earlier or the new one, whole; the next stage refuses, or makes of it what it made of the earlier or the new one; and a
rerun ends with the files of a run that was never stopped, bit for bit, and nothing beside them.
"""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.outcome import Outcome, tally
from benchmarks.faults.run_folders import RUN, differences, digests, names, really_run, write_recipe
from benchmarks.faults.warm_commands import Ended, WarmCommands, kill_group, moment_of
from edgekp.stage import say

FAULT = "kill-export-optimize"
MODULES = ("train.__main__", "optimize.__main__", "deploy.export.__main__", "eval.__main__", "onnx", "onnxruntime",
           "matplotlib.backends.backend_agg", "matplotlib.figure")
STEPS = """
[[optimize]]
method = "prune"
epochs = 1
[[optimize]]
method = "quantize"
images = 128
"""
EARLIER = ("--set", "optimize.prune.macs_reduction=0.5")
Files = dict[str, str]


@dataclass(frozen=True)
class Stage:
    """A command that is killed.

    Attributes:
        before: results that it needs, in the run's folder.
        results: what it publishes, each in one step.
        next: the command that reads them, and what that makes.
        moments: patterns of paths that it touches while it publishes, and about how often.
    """

    words: tuple[str, ...]
    before: tuple[str, ...]
    results: tuple[str, ...]
    next: tuple[str, ...]
    made_next: str
    moments: tuple[tuple[str, int], ...]


STAGES = (
    Stage(("optimize",), ("data", "train"), ("optimize/pruned", "optimize/int8"), ("deploy.export",), "export/cpu",
          ((r"/\.(pruned|int8)\.", 60), (r"/optimize/\.?(models|stage)\.json", 10))),
    Stage(("deploy.export",), ("data", "train", "optimize"), ("export/cpu",), ("eval", "run"), "eval/predictions",
          ((r"/\.cpu\.", 80),)))


@dataclass(frozen=True)
class Undisturbed:
    """Runs that were left alone: one with the recipe as it is, and an earlier one with other settings."""

    recipe: Path
    new: Path
    earlier: Path
    seconds: dict[Stage, float]

    def files(self, name: str) -> tuple[Files, Files]:
        """Digests of a result of both, the new one first."""
        return digests(self.new / RUN / name), digests(self.earlier / RUN / name)


def run(count: int, seed: int) -> Outcome:
    """``count`` kills, of both commands in turn."""
    rng, verdicts = random.Random(seed), list[str]()
    with TemporaryDirectory() as name, WarmCommands(MODULES) as commands:
        undisturbed, number = leave_alone(Path(name), commands), 0
        while len(verdicts) < count:
            number += 1
            stage, folder = STAGES[len(verdicts) % len(STAGES)], Path(name) / f"run-{number}"
            killed, problem = kill_and_run_again(commands, undisturbed, stage, folder, rng)
            verdict, said = problem or ("survived", "")
            if said:
                say(f"faults: {FAULT}: run {number}, {stage.words[0]}: {said}")
            if killed or problem:
                verdicts.append(verdict)
            shutil.rmtree(folder)
    return tally(FAULT, verdicts)


def leave_alone(place: Path, commands: WarmCommands) -> Undisturbed:
    """Both runs: the new one as a user starts it, the earlier one in warm processes, for their time."""
    recipe = write_recipe(place, instances=128, epochs=1, steps=STEPS)
    new, earlier = place / "new", place / "earlier"
    for folder in (new, earlier):
        folder.mkdir()
    _must(commands.run(new, "train", "--recipe", str(recipe)))
    _give(new, earlier, ("data", "train"))
    seconds = {}
    for stage in STAGES:
        really_run(new, *stage.words, "--recipe", str(recipe))
        start = time.monotonic()
        _must(commands.run(earlier, *stage.words, "--recipe", str(recipe), *EARLIER))
        seconds[stage] = time.monotonic() - start
    for folder, settings in ((new, ()), (earlier, EARLIER)):
        _must(commands.run(folder, "eval", "run", "--recipe", str(recipe), *settings))
    return Undisturbed(recipe, new, earlier, seconds)


def kill_and_run_again(commands: WarmCommands, undisturbed: Undisturbed, stage: Stage, folder: Path,
                       rng: random.Random) -> tuple[bool, tuple[str, str] | None]:
    """Whether the command was killed before its end, and what was wrong: a verdict, and a line that says why."""
    folder.mkdir()
    _give(undisturbed.new, folder, stage.before)
    has_earlier = rng.random() < 0.5
    if has_earlier:
        made = {name.partition("/")[0] for name in (*stage.results, stage.made_next)}
        _give(undisturbed.earlier, folder, tuple(made))
    recipe = ("--recipe", str(undisturbed.recipe))
    ended = _kill(commands, undisturbed, stage, folder, rng)
    if ended.code and not ended.killed:
        return False, ("lost", f"exit {ended.code}: {ended.said[-400:]}")
    for name in stage.results:
        if problem := _half_published(folder / RUN / name, undisturbed.files(name), has_earlier):
            return ended.killed, problem
    if problem := _believed(commands.run(folder, *stage.next, *recipe), digests(folder / RUN / stage.made_next),
                            undisturbed.files(stage.made_next)):
        return ended.killed, problem
    ended_again = commands.run(folder, *stage.words, *recipe)
    if ended_again.code != 0:
        return ended.killed, ("lost", f"cannot be run again: exit {ended_again.code}: {ended_again.said[-400:]}")
    if differing := differences(digests(folder / RUN / _top(stage)), undisturbed.files(_top(stage))[0]):
        return ended.killed, ("silent", f"a rerun makes other files than a run that was left alone: {differing}")
    if left := [name for name in names(folder / RUN) - names(undisturbed.new / RUN) if not name.startswith("eval")]:
        return ended.killed, ("lost", f"left behind: {', '.join(sorted(left)[:3])}")
    return ended.killed, None


def _kill(commands: WarmCommands, undisturbed: Undisturbed, stage: Stage, folder: Path, rng: random.Random) -> Ended:
    """Start the command and kill it while it publishes, or at any time; it may end before."""
    words, moment = (*stage.words, "--recipe", str(undisturbed.recipe)), rng.choice((*stage.moments, None))
    if moment:
        return commands.run(folder, *words, moment=moment_of(*moment, rng))
    command = commands.start(folder, *words)
    time.sleep(rng.uniform(0, undisturbed.seconds[stage]))
    kill_group(command.pid)
    return command.wait()


def _half_published(result: Path, known: tuple[Files, Files], has_earlier: bool) -> tuple[str, str] | None:
    """What is wrong with a result after a kill; between two renames the earlier one waits under another name."""
    found, retired = digests(result), digests(result.with_name(f".{result.name}.retired"))
    if found and found not in known:
        return "silent", f"{result.name} is neither the earlier nor the new result"
    if has_earlier and not found and retired != known[1]:
        return "lost", f"the earlier {result.name} is gone"
    return None


def _believed(ended: Ended, made: Files, known: tuple[Files, Files]) -> tuple[str, str] | None:
    """What is wrong with what the next stage does: it refuses with one line, or makes what it made undisturbed."""
    if ended.code == 2:
        return ("lost", f"the next stage: {ended.said[-400:]}") if "Traceback" in ended.said else None
    if ended.code != 0:
        return "lost", f"the next stage: exit {ended.code}: {ended.said[-400:]}"
    return None if made in known else ("silent", "the next stage makes something else of what the kill left")


def _top(stage: Stage) -> str:
    """The folder of all its results."""
    return stage.results[0].partition("/")[0]


def _must(ended: Ended) -> None:
    if ended.code != 0:
        raise RuntimeError(f"exit {ended.code} without any kill: {ended.said[-1000:]}")


def _give(source: Path, folder: Path, results: tuple[str, ...]) -> None:
    for name in results:
        shutil.copytree(source / RUN / name, folder / RUN / name, dirs_exist_ok=True)
