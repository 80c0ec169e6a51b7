"""Stages: run when something changed and say what, do nothing otherwise, and leave no half results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekp.atomic import sha256
from edgekp.errors import StageError
from edgekp.recipe_augment import Augment
from edgekp.recipe_steps import Prune
from edgekp.stage import KEY_FILE, Key, require_stage, run_stage

KEY = Key("optimize", 1, {"prune": Prune("prune"), "augment": Augment(), "images": 256}, {"checkpoint": "a" * 64})


class Work:
    """Counts how often it runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error

    def __call__(self, scratch: Path) -> None:
        self.runs += 1
        (scratch / "result").write_text(str(self.runs))
        if self.error:
            raise self.error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "R" / "optimize"


def test_a_stage_runs_once_and_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = Work()
    assert run_stage(folder, KEY, work)
    assert not run_stage(folder, KEY, work)
    assert work.runs == 1
    lines = capsys.readouterr()
    assert lines.out == ""  # stdout is for results
    assert lines.err.splitlines() == ["optimize: running because no result yet", f"optimize: done ({folder})",
                                      f"optimize: up to date ({folder})"]


@pytest.mark.parametrize(("change", "reason"), [
    ({"version": 2}, "version: 1 -> 2"),
    ({"settings": KEY.settings | {"images": 512}}, "settings.images: 256 -> 512"),
    ({"settings": KEY.settings | {"prune": Prune("prune", macs_reduction=0.5)}},
     "settings.prune.macs_reduction: 0.3 -> 0.5"),
    ({"settings": KEY.settings | {"augment": Augment(scale=(1.0, 1.0))}},
     "settings.augment.scale: [0.75, 1.3] -> [1.0, 1.0]"),
    ({"settings": {"prune": Prune("prune"), "augment": Augment()}}, "settings.images: 256 -> None"),
    ({"settings": KEY.settings | {"new": 1}}, "settings.new: None -> 1"),
    ({"inputs": {"checkpoint": "b" * 64}}, "inputs.checkpoint: aaaaaaaaaaaa… -> bbbbbbbbbbbb…"),
    ({"inputs": {"teacher": "b" * 64}}, "inputs.checkpoint: aaaaaaaaaaaa… -> None; inputs.teacher: None -> bbbbb"),
])
def test_whatever_changes_is_named_and_the_stage_runs_again(
        folder: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str) -> None:
    run_stage(folder, KEY, Work())
    capsys.readouterr()
    assert run_stage(folder, replace(KEY, **change), Work())
    assert f"optimize: running because {reason}" in capsys.readouterr().err


def test_many_reasons_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_stage(folder, KEY, Work())
    run_stage(folder, replace(KEY, settings={"a": 1, "b": 2, "c": 3, "d": 4}, inputs=KEY.inputs), Work())
    assert " more)" in capsys.readouterr().err


def test_force_runs_what_is_up_to_date(folder: Path) -> None:
    work = Work()
    run_stage(folder, KEY, work)
    assert run_stage(folder, KEY, work, force=True)
    assert (folder / "result").read_text() == "2"


def test_a_new_result_takes_the_place_of_all_of_the_old(folder: Path) -> None:
    run_stage(folder, KEY, lambda scratch: (scratch / "old").touch())
    run_stage(folder, KEY, lambda scratch: (scratch / "new").touch(), force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["new", KEY_FILE]


def test_a_failure_leaves_nothing(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        run_stage(folder, KEY, Work(RuntimeError("broken")))
    assert list(folder.parent.iterdir()) == []


def test_a_failure_leaves_the_result_before_it(folder: Path) -> None:
    run_stage(folder, KEY, Work())
    with pytest.raises(RuntimeError):
        run_stage(folder, KEY, Work(RuntimeError("broken")), force=True)
    assert (folder / "result").read_text() == "1"
    assert list(folder.parent.iterdir()) == [folder]
    assert not run_stage(folder, KEY, Work())


@pytest.mark.parametrize("content", ["", "{", "\x00", "[]", "null"])
def test_a_damaged_key_makes_the_stage_run_again(folder: Path, content: str) -> None:
    run_stage(folder, KEY, Work())
    (folder / KEY_FILE).write_text(content)
    assert run_stage(folder, KEY, Work())
    found = json.loads((folder / KEY_FILE).read_text())
    assert found == KEY.to_json() | {"files": {"result": sha256(folder / "result")}}


def test_a_damaged_result_is_made_again_and_no_later_stage_takes_it(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_stage(folder, KEY, Work())
    require_stage(folder, "make optimize")
    (folder / "added").touch()  # as an engine beside its model, and a signature
    (folder / "result.hmac").touch()
    require_stage(folder, "make optimize")
    (folder / "result").write_text("2")
    with pytest.raises(StageError, match=r"optimize: result was changed or damaged .*; run: make optimize$"):
        require_stage(folder, "make optimize")
    assert run_stage(folder, KEY, Work())
    assert "running because result was changed or damaged" in capsys.readouterr().err
    (folder / "result").unlink()
    assert run_stage(folder, KEY, Work())
    require_stage(folder, "make optimize")


def test_force_does_not_give_up_the_only_result_before_there_is_a_new_one(folder: Path) -> None:
    """A kill has left the old result retired; a forced run that fails leaves it as it was."""
    run_stage(folder, KEY, Work())
    folder.rename(folder.with_name(".optimize.retired"))
    with pytest.raises(RuntimeError):
        run_stage(folder, KEY, Work(RuntimeError("broken")), force=True)
    assert not run_stage(folder, KEY, Work())
    assert (folder / "result").read_text() == "1"


def test_a_mounted_folder_is_refused_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == folder)
    with pytest.raises(StageError, match=f"{folder}: something is mounted there, .* mount {folder.parent} instead"):
        run_stage(folder, KEY, work)
    assert work.runs == 0


def test_a_folder_that_cannot_be_renamed_is_refused_before_the_work(folder: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekp.stage.can_be_replaced", lambda _: False)
    work = Work()
    with pytest.raises(StageError, match="cannot be renamed, as a folder of a container's image"):
        run_stage(folder, KEY, work)
    assert work.runs == 0


@pytest.mark.parametrize("files", [None, [], {"result": 1}, "fjles"])
def test_a_result_that_states_no_digests_of_its_files_is_not_believed(folder: Path, files: object,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    run_stage(folder, KEY, Work())
    entry = json.loads((folder / KEY_FILE).read_text())
    stated = entry.pop("files")
    (folder / KEY_FILE).write_text(json.dumps(entry | ({"fjles": stated} if files == "fjles" else {"files": files})))
    with pytest.raises(StageError, match=r"stage\.json was changed or damaged .*; run: make optimize"):
        require_stage(folder, "make optimize")
    assert run_stage(folder, KEY, Work())
    assert "running because stage.json cannot be read" in capsys.readouterr().err


def test_the_next_stage_is_told_which_command_it_needs(folder: Path) -> None:
    with pytest.raises(StageError, match="no result there; run: make train"):
        require_stage(folder, "make train")
    run_stage(folder, KEY, Work())
    assert require_stage(folder, "make train") == folder
