"""Every command that writes into a run's folder takes its lock and says in one line who has it; others need none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from deploy.runtime.trt.builder import build_engine
from edgekp.artifact import open_artifact
from edgekp.errors import StageError
from edgekp.run_lock import locked
from tests import tiny
from tests.deploy.color_people import write_color_artifact
from tests.deploy.trt.fake_tensorrt import fake_tensorrt
from tests.deploy.trt.host_driver import ORIN
from train.world import World

RUN = Path("runs/tiny")
WRITING = {"train": ("train", []), "optimize": ("optimize", []), "search": ("optimize.search", ["--budget-ms", "2"]),
           "export": ("deploy.export", []), "eval run": ("eval", ["run"]), "eval gate": ("eval", ["gate"]),
           "eval waterfall": ("eval", ["waterfall"])}


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe without its data: nobody comes so far."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    Path("tiny.toml").write_text(tiny.toml('[[optimize]]\nmethod = "prune"'))
    return Path("tiny.toml")


def call(module: str, *arguments: str) -> int:
    code: int = import_module(f"{module}.__main__").main([*arguments])
    return code


@pytest.mark.parametrize("name", WRITING)
def test_a_command_that_writes_into_a_run_stays_out_while_another_is_there(
        recipe: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    module, arguments = WRITING[name]
    with locked(RUN):
        assert call(module, *arguments, "--recipe", str(recipe)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f": {RUN}: in use by process " in line
    assert not RUN.exists()


@pytest.mark.parametrize("arguments", [
    ["report", "--run", "runs/tiny", "--out", "report.html"], ["card", "--run", "runs/tiny", "--out", "card.md"],
    ["run", "--artifact", "nothing", "--data", "truth.json"]])
def test_a_command_that_only_reads_a_run_needs_no_lock(
        capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with locked(RUN):
        assert call("eval", *arguments) == 2
    said = capsys.readouterr().err
    assert said
    assert "in use" not in said


@pytest.mark.parametrize(("rank", "trained"), [(0, 0), (1, 1)])
def test_of_several_processes_that_train_together_the_first_takes_the_lock(
        recipe: Path, monkeypatch: pytest.MonkeyPatch, rank: int, trained: int) -> None:
    """Each would find the lock of the first one taken."""
    train = import_module("train.__main__")
    calls: list[object] = []

    @contextmanager
    def world() -> Iterator[World]:
        of_two = World()
        of_two.rank, of_two.size = rank, 2
        yield of_two

    monkeypatch.setattr(train, "launched_world", world)
    monkeypatch.setattr(train, "train", lambda *arguments, **_: calls.append(arguments))
    with locked(RUN):
        train.main(["--recipe", str(recipe)])
    assert len(calls) == trained


def test_an_engine_is_built_by_one_process_and_read_by_any(tmp_path: Path) -> None:
    artifact = open_artifact(write_color_artifact(tmp_path / "pose"))
    with locked(artifact.folder), pytest.raises(StageError, match="pose: in use by process"):
        build_engine(artifact, ORIN, trt=fake_tensorrt())
    stamp = build_engine(artifact, ORIN, trt=fake_tensorrt())
    with locked(artifact.folder):
        assert build_engine(artifact, ORIN, trt=fake_tensorrt()) == stamp
