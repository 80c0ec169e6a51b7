"""Kill -9 at every moment of a save: the old result or the new one is there afterwards, and the next save works."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from benchmarks.faults import kills_while_saving
from benchmarks.faults.outcome import Outcome
from edgekp.atomic import published_folder, restore_retired, write_file
from edgekp.stage import Key, require_stage, run_stage
from tests.killing import killed_at

NAMES = ("a", "sub/b")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk: what a process has written is there after a kill, if not after a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def publish(folder: Path, content: str) -> None:
    """A file and one in a sub-folder, both with the same content."""
    with published_folder(folder) as scratch:
        (scratch / "sub").mkdir()
        for name in NAMES:
            (scratch / name).write_text(content)


def published(folder: Path) -> str | None:
    """The content that all files of a folder agree on; None where there is no folder."""
    restore_retired(folder)
    if not folder.exists():
        return None
    (content,) = {(folder / name).read_text() for name in NAMES}
    return content


def every_moment(work: Callable[[], object], check: Callable[[], object]) -> int:
    """How many moments there are; ``check`` runs after each kill."""
    for moment in count(1):
        killed = killed_at(moment, work)
        check()
        if not killed:
            return moment - 1
    raise AssertionError


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_old_or_new_after_a_kill_at_any_moment(tmp_path: Path, old: str | None) -> None:
    path, seen = tmp_path / "file", set()

    def check() -> None:
        seen.add(path.read_text() if path.exists() else None)
        if old is None:
            path.unlink(missing_ok=True)
        else:
            write_file(path, old)
            assert names(tmp_path) == ["file"]  # what the dead one left is gone

    check()
    seen.clear()
    assert every_moment(lambda: write_file(path, "new"), check) >= 10
    assert seen == {old, "new"}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("old", [None, "old"])
def test_a_folder_is_old_or_new_after_a_kill_at_any_moment(tmp_path: Path, old: str | None) -> None:
    folder, seen = tmp_path / "result", set()

    def check() -> None:
        seen.add(published(folder))
        if old is None:
            for path in tmp_path.glob("result"):
                path.rename(tmp_path / f"gone-{len(names(tmp_path))}")
        else:
            publish(folder, old)
            assert names(tmp_path) == ["result"]

    check()
    seen.clear()
    assert every_moment(lambda: publish(folder, "new"), check) >= 30
    assert seen == {old, "new"}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_stage_is_redone_or_up_to_date_after_a_kill_at_any_moment(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "R" / "train"
    old, new = (Key("train", 1, {"lr": lr}, {}) for lr in (0.1, 0.2))

    def stage(key: Key, force: bool = False) -> bool:
        return run_stage(folder, key, lambda scratch: write_file(scratch / "result", str(key.settings["lr"])),
                         force=force)

    def check() -> None:
        require_stage(folder, "make train")  # what reads it finds one whole result
        found = (folder / "result").read_text()
        assert stage(new) == (found == "0.1")
        assert (folder / "result").read_text() == "0.2"
        assert stage(old)
        assert names(folder.parent) == ["train"]

    stage(old)
    for force in (False, True):
        assert every_moment(partial(stage, new, force), check) >= 30


@pytest.mark.usefixtures("quick")
def test_kills_during_the_recovery_from_kills_lose_nothing(tmp_path: Path) -> None:
    folder, rng, kills, possible = tmp_path / "result", random.Random(0), 0, {"0"}
    publish(folder, "0")
    for version in map(str, range(1, 50)):
        killed = killed_at(rng.randint(1, 70), partial(publish, folder, version))
        possible = possible | {version} if killed else {version}
        kills += killed
        if rng.random() < 0.5:  # else the next writer meets what the kill left
            found = published(folder)
            assert found in possible
            possible = {found}
        assert len(names(tmp_path)) <= 3
    assert kills >= 20
    publish(folder, "last")
    assert names(tmp_path) == ["result"]


def test_a_save_that_is_killed_loses_nothing_and_one_in_place_does() -> None:
    """Few of the many kills of ``make faults``; without losses in place the moments would prove nothing."""
    assert kills_while_saving.run(10, seed=0) == Outcome("kill-save", 10, 10, 0, 0)
    assert kills_while_saving.run_in_place(10, seed=0).lost > 0
