"""Whole stages killed by the kernel: the short form of two rows of ``make faults``, and that those can fail at all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults import kills_while_exporting, kills_while_training, kills_while_training_together
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.warm_commands import Ended, Moment, WarmCommands, kill_group


@pytest.mark.slow
def test_a_killed_training_ends_bit_for_bit_as_one_that_was_left_alone() -> None:
    assert kills_while_training.run(3, seed=1) == Outcome(kills_while_training.FAULT, 3, 3, 0, 0)


@pytest.mark.slow
def test_a_killed_optimize_or_export_is_never_half_believed_and_can_be_run_again() -> None:
    assert kills_while_exporting.run(2, seed=1) == Outcome(kills_while_exporting.FAULT, 2, 2, 0, 0)


@pytest.mark.slow
def test_of_two_processes_the_one_that_is_left_ends_and_the_next_start_goes_on() -> None:
    assert kills_while_training_together.run(2, seed=1) == Outcome(kills_while_training_together.FAULT, 2, 2, 0, 0)


@pytest.fixture(scope="module")
def commands() -> Iterator[WarmCommands]:
    with WarmCommands(["json"]) as started:
        yield started


def test_a_command_ends_as_python_m_does(commands: WarmCommands, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text("[1]")
    assert commands.run(tmp_path, "json.tool", "--compact", "in.json") == Ended(0, "[1]\n")
    ended = commands.run(tmp_path, "json.tool", "--no-such-option")
    assert ended.code == 2
    assert "unrecognized arguments: --no-such-option" in ended.said


@pytest.mark.parametrize(("n", "code"), [(1, -signal.SIGKILL), (2, 0)])
def test_a_moment_comes_before_the_file_is_touched(commands: WarmCommands, tmp_path: Path, n: int, code: int) -> None:
    (tmp_path / "in.json").write_text("[1]")
    ended = commands.run(tmp_path, "json.tool", "in.json", "out.json", moment=Moment(r"out\.json$", n))
    assert ended.code == code
    assert (tmp_path / "out.json").exists() == (code == 0)


def test_a_moment_may_come_a_little_later(commands: WarmCommands, tmp_path: Path) -> None:
    opens = "import time; open('out', 'w'); time.sleep(60)"
    assert commands.run(tmp_path, "timeit", "-n1", "-r1", opens, moment=Moment("out$", 1, delay_s=0.1)).killed
    assert (tmp_path / "out").exists()


FORKS = "import os, time; os.fork(); open('ready', 'w'); time.sleep(60)"


def test_what_outlives_a_command_is_found(commands: WarmCommands, tmp_path: Path) -> None:
    command = commands.start(tmp_path, "timeit", "-n1", "-r1", FORKS)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait().killed
    assert len(command.left_behind()) == 1
    kill_group(command.pid)
    while command.left_behind():
        time.sleep(0.01)


def test_a_command_that_hangs_is_killed_and_said_so(commands: WarmCommands, tmp_path: Path) -> None:
    command = commands.start(tmp_path, "timeit", "-n1", "-r1", "import time; time.sleep(60)")
    assert command.wait(patience_s=0.2) == Ended(None, "")
    assert not command.left_behind()
