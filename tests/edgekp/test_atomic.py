"""Files and folders appear whole or not at all, whatever fails. Kills at every moment: tests/test_kills.py."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edgekp.atomic import can_be_replaced, published_folder, restore_retired, sha256, write_file
from tests.full_disk import files_of_at_most


class Crash(Exception):
    """A failure of our own making."""


class NoSpace(OSError):
    """What a system call says on a full disk."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def nth_call(function: Callable[..., Any], n: int) -> Callable[..., Any]:
    """``function``, but its n-th call does nothing and fails."""
    calls = count(1)

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == n:
            raise NoSpace
        return function(*arguments, **keywords)
    return wrapped


def dead_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def publish(folder: Path, content: str) -> None:
    with published_folder(folder) as scratch:
        write_file(scratch / "file", content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sha256_is_the_one_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_file(tmp_path / "deep" / "a.json", "old")
    write_file(tmp_path / "deep" / "a.json", b"new")
    assert (tmp_path / "deep" / "a.json").read_text() == "new"
    assert names(tmp_path / "deep") == ["a.json"]


def test_a_disk_that_fills_up_within_a_file_leaves_the_old_one_and_is_named(tmp_path: Path) -> None:
    write_file(tmp_path / "a.json", "old")
    with files_of_at_most(1000), pytest.raises(OSError, match=re.escape(f"'{tmp_path / 'a.json'}'")):
        write_file(tmp_path / "a.json", "n" * 2000)
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == ["a.json"]


CALLS = {"fsync": os, "open": os, "mkdir": Path, "rename": Path, "replace": Path}


@pytest.mark.parametrize("name", CALLS)
def test_a_full_disk_at_any_call_leaves_the_old_folder_or_the_new_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every call before the second rename keeps the old one; after it the new one is there."""
    seen = set()
    for n in count(1):
        publish(tmp_path / "result", "old")
        with monkeypatch.context() as patch:
            patch.setattr(CALLS[name], name, nth_call(getattr(CALLS[name], name), n))
            try:
                publish(tmp_path / "result", "new")
                break
            except NoSpace:
                seen.add((tmp_path / "result" / "file").read_text())
                assert set(names(tmp_path)) <= {"result", ".result.retired"}
    assert seen == {"fsync": {"old", "new"}, "open": {"old", "new"}, "mkdir": {"old"}, "replace": {"old"},
                    "rename": {"old", "new"}}[name]


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut may leave the name without the content."""
    order: list[str] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (
        order.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}"), fsync(descriptor)))
    for name, function in (("rename", rename), ("replace", replace)):
        monkeypatch.setattr(Path, name, lambda path, target, function=function: (
            order.append(f"name {target.name}"), function(path, target)))
    write_file(tmp_path / "a", "new")
    beside = f".a.{os.getpid()}.tmp"
    assert order == [f"flush {beside}", "name a", f"flush {tmp_path.name}"]
    order.clear()
    with published_folder(tmp_path / "result") as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub" / "file").write_text("new")
    assert set(order[:3]) == {"flush file", "flush sub", f"flush .result.{os.getpid()}.tmp"}
    assert order[3:] == ["name result", f"flush {tmp_path.name}"]


def test_what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    dead, alive = dead_process(), os.getppid()
    for name in ("a", "result", "other"):
        for process in (dead, alive):
            (tmp_path / f".{name}.{process}.tmp").mkdir()
            (tmp_path / f".{name}.{process}.tmp" / "half").touch()
    (tmp_path / ".a.mine.tmp").touch()
    write_file(tmp_path / "a", "new")
    publish(tmp_path / "result", "new")
    assert names(tmp_path) == sorted(["a", "result", ".a.mine.tmp", f".other.{dead}.tmp", *(
        f".{name}.{alive}.tmp" for name in ("a", "result", "other"))])


def test_leftovers_of_a_process_with_the_number_that_is_now_ours_do_no_harm(tmp_path: Path) -> None:
    """As in containers, where every command may be process 1."""
    left = tmp_path / f".result.{os.getpid()}.tmp"
    left.mkdir()
    (left / "half").touch()
    (tmp_path / f".a.{os.getpid()}.tmp").write_text("much longer than what is written now")
    publish(tmp_path / "result", "new")
    write_file(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == ["a", "result"]
    assert names(tmp_path / "result") == ["file"]


def test_a_link_stays_a_link_to_what_is_replaced(tmp_path: Path) -> None:
    """As to a larger disk: a folder beside the link could not be renamed to there."""
    there, here = tmp_path / "there", tmp_path / "here"
    here.mkdir()
    publish(there / "result", "old")
    write_file(there / "a", "old")
    for name in ("a", "result"):
        (here / name).symlink_to(there / name)
    for content in ("new", "newer"):
        publish(here / "result", content)
        write_file(here / "a", content)
    assert (here / "a").is_symlink()
    assert (here / "result").is_symlink()
    assert (there / "a").read_text() == (there / "result" / "file").read_text() == "newer"
    assert names(there) == names(here) == ["a", "result"]


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_file(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    write_file(Path(os.devnull), "nowhere")
    assert Path(os.devnull).is_char_device()


def test_a_file_that_the_standard_output_goes_to_is_not_replaced(tmp_path: Path, repository: Path) -> None:
    """``--json /dev/stdout > file`` must not take away the file that the shell has opened."""
    with (tmp_path / "file").open("w") as file:
        subprocess.run([sys.executable, "-c", """
import sys
from pathlib import Path
from edgekp.atomic import write_file
print("first")
write_file(Path("/dev/stdout"), "second\\n")
"""], cwd=repository, check=True, stdout=file)
    assert (tmp_path / "file").read_text() == "first\nsecond\n"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_published_whole(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    for content in ("old", "new"):
        with published_folder(folder) as scratch:
            (scratch / "sub").mkdir()
            (scratch / "sub" / "file").write_text(content)
    assert (folder / "sub" / "file").read_text() == "new"
    assert names(tmp_path) == ["result"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    with published_folder(folder) as scratch:
        (scratch / "file").write_text("old")
    with pytest.raises(Crash), published_folder(folder) as scratch:
        (scratch / "file").write_text("half")
        raise Crash
    assert (folder / "file").read_text() == "old"
    assert names(tmp_path) == ["result"]


def test_a_first_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Crash), published_folder(tmp_path / "result") as scratch:
        (scratch / "file").write_text("half")
        raise Crash
    assert names(tmp_path) == []


def test_a_process_killed_in_the_middle_leaves_the_old_result(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "result"
    with published_folder(folder) as scratch:
        (scratch / "file").write_text("old")
    killed = subprocess.run([sys.executable, "-c", f"""
import os, signal
from pathlib import Path
from edgekp.atomic import published_folder
with published_folder(Path({str(folder)!r})) as scratch:
    (scratch / "file").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""], cwd=repository, check=False)
    assert killed.returncode == -9
    assert (folder / "file").read_text() == "old"


def stop_at_the_second_rename(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    """``before`` is called where the old folder is retired and the new one is not in its place."""
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            before()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)


def test_an_error_between_the_two_renames_puts_the_old_one_back(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "result", "old")

    def fail() -> None:
        assert names(tmp_path) == [f".result.{os.getpid()}.tmp", ".result.retired"]
        raise Crash

    stop_at_the_second_rename(monkeypatch, fail)
    with pytest.raises(Crash):
        publish(tmp_path / "result", "new")
    assert (tmp_path / "result" / "file").read_text() == "old"
    assert names(tmp_path) == ["result"]


def test_a_reader_between_the_two_renames_gets_the_old_one_and_the_new_one_still_comes(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "result", []
    publish(folder, "old")

    def read() -> None:
        if not seen:
            restore_retired(folder)
            seen.append((folder / "file").read_text())

    stop_at_the_second_rename(monkeypatch, read)
    publish(folder, "new")
    assert seen == ["old"]
    assert (folder / "file").read_text() == "new"
    assert names(tmp_path) == ["result"]


def test_a_reader_that_comes_too_late_does_not_put_the_old_one_over_the_new_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, exists = tmp_path / "result", Path.exists
    publish(folder, "new")
    publish(tmp_path / ".result.retired", "old")
    monkeypatch.setattr(Path, "exists", lambda path: path != folder and exists(path))  # as it was a moment ago
    restore_retired(folder)
    assert (folder / "file").read_text() == "new"


def test_nothing_is_restored_where_nothing_was_retired(tmp_path: Path) -> None:
    restore_retired(tmp_path / "result")
    assert names(tmp_path) == []


def test_a_retired_folder_that_was_half_removed_is_never_restored(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The removal fails: what is left of the old one does not lie under the name that is restored."""
    from edgekp import atomic

    publish(tmp_path / "result", "old")
    with monkeypatch.context() as patch:
        patch.setattr(atomic.shutil, "rmtree", lambda *_, **__: None)
        publish(tmp_path / "result", "new")
    (tmp_path / "result").rename(tmp_path / "elsewhere")
    restore_retired(tmp_path / "result")
    assert not (tmp_path / "result").exists()


def test_a_folder_where_names_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems say EINVAL to the fsync of a folder; to any other error nobody closes the eyes."""
    fsync = os.fsync

    def refused(code: int) -> Callable[[int], None]:
        def flush(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").is_dir():
                raise OSError(code, os.strerror(code))
            fsync(descriptor)
        return flush

    monkeypatch.setattr(os, "fsync", refused(errno.EINVAL))
    write_file(tmp_path / "a", "new")
    monkeypatch.setattr(os, "fsync", refused(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        write_file(tmp_path / "a", "newer")


def test_a_file_for_a_retired_folder_goes_into_the_old_result_and_does_not_end_it(tmp_path: Path) -> None:
    """As an engine that is built while the export it belongs to was killed between its renames."""
    folder = tmp_path / "export"
    publish(folder, "old")
    folder.rename(tmp_path / ".export.retired")
    write_file(folder / "engine", "built")
    assert {path.name for path in folder.iterdir()} == {"file", "engine"}
    assert not (tmp_path / ".export.retired").exists()


def test_a_folder_that_can_be_replaced_is_where_it_was(tmp_path: Path) -> None:
    publish(tmp_path / "result", "old")
    assert can_be_replaced(tmp_path / "result")
    assert can_be_replaced(tmp_path / "none")
    assert names(tmp_path) == ["result"]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EBUSY])
def test_a_folder_of_an_images_layer_cannot_be_replaced(code: int, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "result", "old")

    def rename(_self: Path, _target: Path) -> Path:
        raise OSError(code, os.strerror(code))
    monkeypatch.setattr(Path, "rename", rename)
    assert not can_be_replaced(tmp_path / "result")
