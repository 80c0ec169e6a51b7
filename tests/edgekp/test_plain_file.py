"""Files at the door: plain ones of a limited size come in whole, and nothing else makes a command wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgekp.plain_file import read_plain

STATUS = Path("/proc/self/status")


def test_a_plain_file_comes_in_whole_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(200)))
    assert read_plain(path, 200) == bytes(range(200))
    with pytest.raises(OSError, match="0 MB, at most 0 MB are read"):
        read_plain(path, 199)


def test_a_sparse_file_of_a_terabyte_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="1048576 MB, at most 16 MB"):
        read_plain(path, 16 << 20)


@pytest.mark.skipif(not STATUS.exists(), reason="this system has no /proc")
def test_a_file_that_is_longer_than_the_system_says_is_refused() -> None:
    assert STATUS.stat().st_size == 0 < len(STATUS.read_bytes())
    with pytest.raises(OSError, match="it grows while it is read"):
        read_plain(STATUS, 10)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "link to a pipe", "missing"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind != "missing":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to({"pipe": tmp_path / "pipe", "link to a pipe": tmp_path / "pipe"}.get(kind, Path("/dev/zero")))
    with pytest.raises(OSError, match=r"a pipe or a device|Is a directory|No such"):
        read_plain(path, 1 << 20)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="no name that a file can have"):
        read_plain(str(tmp_path / name), 10)
