"""One run at a time in a folder: who comes second is told who is there, and nobody waits for the dead."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from edgekp import run_lock
from edgekp.errors import StageError
from edgekp.run_lock import locked

PATIENCE_S = 20


@contextmanager
def other_process(work: Callable[[Callable[[], None]], object]) -> Iterator[int]:
    """A fork that does ``work`` up to where it calls what it is given, and then waits to be killed; its number."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        def ready() -> NoReturn:
            os.write(writing, b"!")
            signal.pause()
            os._exit(0)
        try:
            signal.alarm(PATIENCE_S)
            work(ready)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"!", "the other process has failed"
        yield process
    finally:
        os.close(reading)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def holding(folder: Path) -> Callable[[Callable[[], None]], None]:
    def hold(ready: Callable[[], None]) -> None:
        with locked(folder):
            ready()
    return hold


def raising(code: int) -> Callable[..., Any]:
    def refused(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code))
    return refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "coco"


def test_the_second_process_is_told_who_the_first_one_is(folder: Path) -> None:
    with other_process(holding(folder)) as process:
        said = (rf"{folder}: in use by process {process} on {re.escape(socket.gethostname())} since "
                rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S* \(.+\); wait for its end, or stop it")
        with pytest.raises(StageError, match=said), locked(folder):
            pytest.fail("two in one folder")
    with locked(folder):  # the kernel has taken the lock of the dead one back
        pass


def test_a_folder_is_free_again_after_its_run_and_after_an_error(folder: Path) -> None:
    with locked(folder):
        pass
    with pytest.raises(KeyboardInterrupt), locked(folder):
        raise KeyboardInterrupt
    with locked(folder), pytest.raises(StageError, match="in use"), locked(folder):
        pytest.fail("two in one folder")


def test_runs_in_other_folders_do_not_wait(folder: Path) -> None:
    with locked(folder), locked(folder.with_name("faces")):
        pass


def test_a_folder_by_another_name_is_the_same_one(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    with locked(folder), pytest.raises(StageError, match="in use"), locked(tmp_path / "link"):
        pytest.fail("two in one folder")


def test_the_lock_survives_the_removal_of_the_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    with locked(folder):
        folder.rmdir()
        with pytest.raises(StageError, match="in use"), locked(folder):
            pytest.fail("two in one folder")
    assert list(folder.parent.iterdir()) == []


def test_a_command_that_is_refused_leaves_nothing_behind(folder: Path) -> None:
    with pytest.raises(StageError, match="refused"), locked(folder):
        raise StageError("refused before anything was made")
    assert not folder.parent.exists()
    with locked(folder):
        folder.mkdir()
    assert sorted(folder.parent.iterdir()) == [folder.with_name(".coco.lock"), folder]


def test_a_lock_on_a_file_that_was_taken_away_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened the file before its holder removed it holds a lock that nobody else will meet, and takes another."""
    take, file = run_lock._take, folder.with_name(".coco.lock")

    def late(*names: Path) -> int | None:
        descriptor = take(*names)
        if not late_once:
            late_once.append(True)
            file.unlink()
        return descriptor

    late_once: list[bool] = []
    monkeypatch.setattr(run_lock, "_take", late)
    folder.mkdir(parents=True)
    with locked(folder):
        assert file.exists()
        with pytest.raises(StageError, match="in use"), locked(folder):
            pytest.fail("two in one folder")


def test_workers_that_outlive_a_killed_run_do_not_keep_its_lock(folder: Path, tmp_path: Path) -> None:
    """A worker that loads data is a fork, and looks for its parent only every few seconds."""
    def hold_and_fork(ready: Callable[[], None]) -> None:
        with locked(folder):
            worker = os.fork()
            if worker == 0:
                signal.alarm(PATIENCE_S)
                signal.pause()
            (tmp_path / "worker").write_text(str(worker))
            ready()

    with other_process(hold_and_fork):
        pass
    worker = int((tmp_path / "worker").read_text())
    try:
        with locked(folder):
            os.kill(worker, 0)  # it is still there
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_worker_that_ends_does_not_end_the_lock(folder: Path) -> None:
    with locked(folder):
        worker = os.fork()
        if worker == 0:
            os._exit(0)
        os.waitpid(worker, 0)
        with pytest.raises(StageError, match="in use"), locked(folder):
            pytest.fail("two in one folder")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pid": 1}', b"[" * 10_000])
def test_a_holder_that_does_not_say_who_it_is_holds_the_lock_all_the_same(folder: Path, content: bytes) -> None:
    with locked(folder):
        folder.with_name(".coco.lock").write_bytes(content)
        with pytest.raises(StageError, match="coco: in use by another process; wait"), locked(folder):
            pytest.fail("two in one folder")


def test_the_message_is_one_line_whatever_the_holder_was_called_with(folder: Path) -> None:
    with locked(folder):
        said = {"host": "h\nost", "pid": 7, "command": "python -m train\n" + "x" * 10_000, "since": "noon"}
        folder.with_name(".coco.lock").write_text(json.dumps(said))
        with (pytest.raises(StageError, match=r"process 7 on h ost since noon \(python -m train x+\); ") as caught,
              locked(folder)):
            pytest.fail("two in one folder")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_what_a_killed_holder_said_is_not_said_of_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "orig_argv", ["python", "x" * 500])
        with other_process(holding(folder)):
            pass
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "train", "--recipe", "my recipe.toml"])
    with locked(folder):
        found = json.loads(folder.with_name(".coco.lock").read_text())
    assert found["command"] == "python -m train --recipe 'my recipe.toml'"
    assert found["pid"] == os.getpid()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_and_does_not_stop_the_run(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int) -> None:
    monkeypatch.setattr(fcntl, "flock", raising(code))
    open_before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names)
    with locked(folder):
        pass
    assert set(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208
    assert capsys.readouterr().err == (f"{folder}: cannot be locked ({os.strerror(code)}), so nobody keeps a second "
                                       "run out; do not start one\n")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_where_no_file_can_be_made_a_run_that_only_reads_goes_on(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_lock.os, "open", raising(code))
        with locked(folder):
            pass
    assert f"cannot be locked ({os.strerror(code)})" in capsys.readouterr().err


def test_a_full_disk_does_not_undo_the_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock.os, "pwrite", raising(errno.ENOSPC))
    with locked(folder), pytest.raises(StageError, match="in use by another process"), locked(folder):
        pytest.fail("two in one folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_lock_of_another_user_keeps_us_out() -> None:
    folder = Path(tempfile.mkdtemp(prefix="edgekp-lock-")) / "run"
    folder.parent.chmod(0o777)

    def second(ready: Callable[[], None]) -> None:
        os.setuid(54321)
        with pytest.raises(StageError, match="in use by process"), locked(folder):
            pytest.fail("two in one folder")
        ready()
    try:
        with locked(folder):
            folder.mkdir()
            folder.with_name(".run.lock").chmod(0o644)
            with other_process(second):
                pass
    finally:
        shutil.rmtree(folder.parent)


def test_a_link_in_the_place_of_a_lock_is_refused_and_its_file_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    folder.mkdir(parents=True)
    folder.with_name(f".{folder.name}.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StageError, match="a link, expected the plain file of a lock"), locked(folder):
        pytest.fail("locked")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_pipe_in_the_place_of_a_lock_is_refused_at_once(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder.with_name(f".{folder.name}.lock"))
    with pytest.raises(StageError, match="no plain file, expected that of a lock"), locked(folder):
        pytest.fail("locked")
