"""Foreign label files that are small on disk and large in memory, or nested without end, are refused soon."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from time import perf_counter

import pytest

from edgekp.errors import DataError
from edgekp.importers import checks
from edgekp.importers.mat_file import read_mat
from edgekp.importers.xml_tree import DEEPEST, read_xml


def mat_bomb(unpacked: bytes) -> bytes:
    """A MATLAB file with one packed variable."""
    header = b"MATLAB 5.0".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM"
    packed = zlib.compress(unpacked, 9)
    return header + struct.pack("<II", 15, len(packed)) + packed


def test_a_packed_variable_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(mat_bomb(struct.pack("<II", 14, 60_000_000) + bytes(60_000_000)))
    assert path.stat().st_size < 64 * 1024
    began = perf_counter()
    with pytest.raises(DataError, match="cut short, or too large"):
        read_mat(path, "RELEASE")
    assert perf_counter() - began < 1


def test_elements_nested_without_end_are_refused_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<a>\n" * 100_000)
    with pytest.raises(DataError, match=f"line {DEEPEST + 1}: elements nested deeper than {DEEPEST}"):
        read_xml(path)
    path.write_text("<a>" * DEEPEST + "</a>" * DEEPEST)
    assert read_xml(path).tag == "a"


def test_a_line_without_end_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 2\n" + "3 " * checks.LONGEST_LINE)
    with pytest.raises(DataError, match="line 2 has 2097152 characters"):
        checks.read_lines(path)


def test_a_text_beyond_its_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LARGEST_TEXT", 1 << 20)
    (tmp_path / "a.txt").write_text("1 2\n" * (1 << 19))
    with pytest.raises(DataError, match="2 MB, at most 1 MB"):
        checks.read_lines(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_label_file(name: str) -> None:
    for read in (checks.read_lines, read_xml, lambda path: read_mat(path, "a")):
        with pytest.raises(DataError, match="a pipe or a device"):
            read(Path(name))
