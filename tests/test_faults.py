"""``benchmarks.faults``: every fault a few times, and the runner, which believes nobody that all went well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.faults import __main__ as command
from benchmarks.faults import experiments, records
from benchmarks.faults.experiments import EXPERIMENTS, Experiment
from benchmarks.faults.outcome import Outcome, tally
from benchmarks.faults.records import Asked, is_answered, outcome_of
from benchmarks.faults.table import BEGIN, END, as_text, write_into
from edgekp.errors import DataError

LEAST = {"jpeg-truncation": 500, "jpeg-bit-flip": 2000, "checkpoint-bit-flip": 1000, "onnx-bit-flip": 1000,
         "tflite-bit-flip": 1000, "engine-bit-flip": 1000, "header-bomb": 20, "damaged-annotations": 200,
         "external-data": 20, "malicious-pickle": 10, "kill-save": 200, "kill-training": 50,
         "kill-export-optimize": 20, "disk-full": 20, "permission": 10, "mismatched-manifest": 40, "camera": 50}
FEW = {"disk-full": 2, "permission": 2, "camera": 2, "camera-signal": 2, "camera-kill": 2}
KILLED_STAGES = ("kill-training", "kill-training-together", "kill-export-optimize")  # see test_killed_stages.py
ASKED = Asked(4, 0, "code")
WELL = {"fault": "x", "tried": 4, "survived": 4, "lost": 0, "silent": 0, "seed": 0, "code": "code", "seconds": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [each for each in EXPERIMENTS if each.fault not in KILLED_STAGES],
                         ids=lambda each: each.fault)
def test_a_few_tries_of_every_fault_lose_nothing_and_hide_nothing(experiment: Experiment,
                                                                  capfd: pytest.CaptureFixture[str]) -> None:
    tries = FEW.get(experiment.fault, 10)
    found = outcome_of(experiment, experiment.function, Asked(tries, 7, "any"))
    assert (found.tried, found.lost, found.silent) == (tries, 0, 0), capfd.readouterr().err


def test_a_full_run_tries_every_fault_as_often_as_promised() -> None:
    tries = {experiment.fault: experiment.tries for experiment in EXPERIMENTS}
    assert {fault: tries.get(fault, 0) >= least for fault, least in LEAST.items()} == dict.fromkeys(LEAST, True)


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="are not the 3 tried"):
        Outcome("x", 3, 1, 0, 1)
    with pytest.raises(ValueError, match="negative"):
        Outcome("x", 1, 2, -1, 0)
    with pytest.raises(ValueError, match="no verdict 'fine'"):
        tally("x", ["survived", "fine"])
    assert tally("x", ["lost", "survived", "silent", "survived"]) == Outcome("x", 4, 2, 1, 1)


MODULE = """
import os, signal, sys, time
from benchmarks.faults.outcome import Outcome
def all_well(tries, seed): return Outcome("x", tries, tries, 0, 0)
def too_few(tries, seed): return Outcome("x", tries - 1, tries - 1, 0, 0)
def raises(tries, seed): raise RuntimeError("the reason")
def crashes(tries, seed): os.kill(os.getpid(), signal.SIGSEGV)
def leaves(tries, seed): os._exit(0)
def hangs(tries, seed): time.sleep(60)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Outcome]:
    """What is said of a function of ours, run as the experiments are."""
    (tmp_path / "own_experiment.py").write_text(MODULE)
    one = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(records.ROOT)!r}]\n" \
          "import own_experiment, json, dataclasses\n" \
          "fault, function, tries, seed, out = sys.argv[1:]\n" \
          "found = getattr(own_experiment, function)(int(tries), int(seed))\n" \
          "open(out, 'w').write(json.dumps(dataclasses.asdict(found)))\n"
    (tmp_path / "one.py").write_text(one)
    monkeypatch.setattr(records, "ONE", [str(tmp_path / "one.py")])
    return lambda function: outcome_of(Experiment("x", "", function, 4), function, ASKED, longest_s=5.0)


def test_an_experiment_that_ends_well_is_believed(own: Callable[[str], Outcome]) -> None:
    assert own("all_well") == Outcome("x", 4, 4, 0, 0)


@pytest.mark.parametrize(("function", "reason"), [
    ("raises", "ended with 1"), ("crashes", "ended with -11"), ("leaves", "left no outcome"),
    ("too_few", "made 3 tries, 4 were asked for"),
    pytest.param("hangs", "not done after 5 s", marks=pytest.mark.slow)])
def test_an_experiment_that_does_not_end_well_is_lost_as_a_whole(
        own: Callable[[str], Outcome], capfd: pytest.CaptureFixture[str], function: str, reason: str) -> None:
    assert own(function) == Outcome("x", 4, 0, 4, 0)
    assert reason in capfd.readouterr().err


@pytest.mark.parametrize(("row", "answered"), [
    (WELL, True), (None, False), (WELL | {"tried": 3, "survived": 3}, False), (WELL | {"seed": 1}, False),
    (WELL | {"code": "older"}, False), (WELL | {"survived": 3, "lost": 1}, False),
    (WELL | {"survived": 3, "silent": 1}, False)])
def test_only_what_went_well_with_the_same_code_and_seed_is_not_run_again(
        row: dict[str, object] | None, answered: bool) -> None:
    assert is_answered(row, ASKED) is answered


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    """The command with two experiments; its exit code, and which of them ran."""
    ran: list[str] = []

    def row_of(experiment: Experiment, asked: Asked) -> dict[str, object]:
        ran.append(f"{experiment.fault} x {asked.tries}")
        silent = int(experiment.fault == "leaky" and asked.seed == 1)
        return WELL | {"fault": experiment.fault, "tried": asked.tries, "survived": asked.tries - silent,
                       "silent": silent, "seed": asked.seed}

    monkeypatch.setattr(command, "EXPERIMENTS", (Experiment("safe", "", "", 40), Experiment("leaky", "", "", 3)))
    monkeypatch.setattr(command, "row_of", row_of)
    monkeypatch.setattr(command, "code_digest", lambda: "code")

    def start(*words: str) -> tuple[int, list[str]]:
        ran.clear()
        return command.main(["--out", str(tmp_path / "faults.json"), *words]), sorted(ran)

    return start


def test_the_command_fails_where_something_was_silent(suite: Callable[..., tuple[int, list[str]]],
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    assert suite() == (0, ["leaky x 3", "safe x 40"])
    assert suite("--seed", "1", "--scale", "0.1") == (1, ["leaky x 1", "safe x 4"])
    assert "leaky                          1         0         0         1" in capsys.readouterr().out


def test_the_command_goes_on_where_it_was_stopped(suite: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    assert suite("--only", "safe") == (0, ["safe x 40"])
    assert suite() == (0, ["leaky x 3"])
    assert suite("--force", "--only", "leaky") == (0, ["leaky x 3"])
    rows = json.loads((tmp_path / "faults.json").read_text())
    assert [row["fault"] for row in rows] == ["safe", "leaky"]
    assert rows[0].keys() >= {"fault", "tried", "survived", "lost", "silent"}


def test_a_fault_that_is_unknown_is_named(suite: Callable[..., tuple[int, list[str]]],
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert suite("--only", "leeky") == (2, [])
    assert "did you mean 'leaky'?" in capsys.readouterr().err


def test_the_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    usual = WELL | {"usual_way": "torch.save", "usual_tried": 4, "usual_lost": 3, "usual_silent": 0}
    page = write_into(tmp_path, [usual], f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "| x | 4 | 4 | 0 | 0 | torch.save: 3 lost of 4 |" in page
    assert "old" not in page
    assert write_into(tmp_path, [usual], page) == page
    with pytest.raises(DataError, match="put them back"):
        write_into(tmp_path, [usual], "no marks")


def test_the_page_has_a_place_for_the_table() -> None:
    page = command.DOCS
    once = write_into(page, [WELL], page.read_text(encoding="utf-8"))
    assert write_into(page, [WELL], once) == once


def test_the_sums_stand_below_the_table() -> None:
    lines = as_text([WELL, WELL | {"survived": 3, "lost": 1}]).splitlines()
    assert lines[-1].split() == ["all", "8", "7", "1", "0"]


def test_every_experiment_has_its_function() -> None:
    for experiment in EXPERIMENTS:
        text = (Path(experiments.__file__).parent / f"{experiment.module}.py").read_text()
        assert f"def {experiment.function}(" in text, experiment
