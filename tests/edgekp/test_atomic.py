"""Files and folders appear whole or not at all, whenever the process stops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekp.atomic import published_folder, restore_retired, sha256, write_file


class Crash(Exception):
    """A failure of our own making."""


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


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "a.json", "old")

    def half_written(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:2])
        raise Crash

    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(Crash):
        write_file(tmp_path / "a.json", "new content")
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == ["a.json"]


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


def test_a_crash_between_the_two_renames_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "result"
    with published_folder(folder) as scratch:
        (scratch / "file").write_text("old")
    rename = Path.rename

    def stop_at_the_second(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise Crash
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stop_at_the_second)
    with pytest.raises(Crash), published_folder(folder) as scratch:
        (scratch / "file").write_text("new")
    monkeypatch.undo()
    assert not folder.exists()
    restore_retired(folder)
    assert (folder / "file").read_text() == "old"
