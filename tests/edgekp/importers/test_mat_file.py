"""MATLAB files: what scipy writes comes back as scipy reads it; no damage ends in anything but a DataError."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from edgekp.errors import DataError
from edgekp.importers.mat_file import read_mat

PACKED = pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, dimensions: tuple[int, ...], *parts: bytes, name: bytes = b"x", order: str = "<") -> bytes:
    """An array by hand: flags, dimensions, name, then ``parts``."""
    flags = element(6, struct.pack(f"{order}II", kind, 0), order)
    shape = element(5, struct.pack(f"{order}{len(dimensions)}i", *dimensions), order)
    return element(14, flags + shape + element(1, name, order) + b"".join(parts), order)


def mat(*variables: bytes, order: str = "<", version: int = 0x0100) -> bytes:
    mark = {"<": b"IM", ">": b"MI"}[order]
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", version) + mark + b"".join(variables)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@PACKED
@pytest.mark.parametrize("code", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_arrays_come_back_as_scipy_reads_them(tmp_path: Path, rng: np.random.Generator, code: str,
                                              packed: bool) -> None:
    for shape in ((3, 14, 5), (2, 3), (1, 4), (0, 0), (3, 0)):
        values = rng.integers(0, 100, shape).astype(code)
        savemat(tmp_path / "a.mat", {"other": 1.0, "x": values}, do_compression=packed)
        np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "x"), loadmat(tmp_path / "a.mat")["x"])


@PACKED
def test_structs_texts_cells_and_numbers_become_plain_python(tmp_path: Path, packed: bool) -> None:
    people = np.zeros((2, 2), dtype=[("name", object), ("age", object)])
    for place, name in zip(np.ndindex(2, 2), ("ann", "bo", "", "dée"), strict=True):
        people[place] = (name, float(len(name)))
    cell = np.empty((1, 3), dtype=object)
    cell[0, :] = 2.5, "two", np.eye(2)
    savemat(tmp_path / "a.mat", {"x": {"people": people, "cell": cell, "none": np.zeros((0, 0)), "one": np.int16(-7)}},
            do_compression=packed)
    found, = read_mat(tmp_path / "a.mat", "x")
    assert found["people"] == [{"name": name, "age": float(len(name))} for name in ("ann", "", "bo", "dée")]  # columns
    assert found["cell"][:2] == [2.5, "two"]
    np.testing.assert_array_equal(found["cell"][2], np.eye(2))
    assert found["none"].size == 0
    assert found["one"] == -7


def test_the_byte_order_of_the_other_machines(tmp_path: Path) -> None:
    numbers = element(9, struct.pack(">3d", 1.5, -2, 3), ">")
    path = written(tmp_path / "a.mat", mat(matrix(6, (1, 3), numbers, order=">"), order=">"))
    np.testing.assert_array_equal(read_mat(path, "x"), [[1.5, -2, 3]])
    np.testing.assert_array_equal(loadmat(path)["x"], [[1.5, -2, 3]])


@pytest.mark.parametrize(("kind", "encoding"), [(16, "utf-8"), (17, "utf-16-le"), (18, "utf-32-le"), (4, "utf-16-le")])
def test_texts_of_every_encoding(tmp_path: Path, kind: int, encoding: str) -> None:
    path = written(tmp_path / "a.mat", mat(matrix(4, (1, 3), element(kind, "aé7".encode(encoding)))))
    assert read_mat(path, "x") == "aé7"


BAD = {
    "nothing": (b"", "does not begin as one"),
    "a text": (b"x, y\n" * 99, "does not begin as one"),
    "version 4": (bytes(300), "does not begin as one"),
    "version 7.3": (mat(version=0x0200), r"version 7\.3 \(HDF5\); save it again with save"),
    "version 9": (mat(version=9), "does not begin as one"),
    "no variable": (mat(), "no variable 'x'; it has: none"),
    "another variable": (mat(matrix(6, (1, 1), element(9, bytes(8)), name=b"y")), "no variable 'x'; it has: y"),
    "cut in a tag": (mat(matrix(6, (1, 1), element(9, bytes(8))))[:132], "unpack_from"),
    "cut in the numbers": (mat(matrix(6, (1, 1), element(9, bytes(8))))[:-4], "cut short"),
    "too few numbers": (mat(matrix(6, (2, 2), element(9, bytes(24)))), "3 numbers for 2 x 2"),
    "half a number": (mat(matrix(6, (1, 1), element(9, bytes(7)))), "7 bytes of type 9"),
    "no numbers": (mat(matrix(6, (1, 1))), "0 bytes of type 0"),
    "numbers of no type": (mat(matrix(6, (1, 1), element(99, bytes(8)))), "8 bytes of type 99"),
    "negative shape": (mat(matrix(6, (1, -1), element(9, b""))), "has no shape"),
    "200,000 dimensions": (mat(matrix(6, (0x7FFFFFFF,) * 200_000, element(9, bytes(8)))), "200000 numbers, where 32"),
    "70 dimensions": (mat(matrix(6, (2,) + (1,) * 69, element(9, bytes(16)))), "70 numbers, where 32"),
    "nothing of a vast shape": (mat(matrix(6, (0,) + (0x7FFFFFFF,) * 3, element(9, b""))), "0 numbers for 0 x 21474"),
    "function": (mat(matrix(16, (1, 1))), r"a class that is not read \(16\)"),
    "sparse": (mat(matrix(5, (1, 1))), r"a class that is not read \(5\)"),
    "struct without field names": (mat(matrix(2, (1, 1))), "type 0, expected numbers"),
    "struct with names that do not fit": (
        mat(matrix(2, (1, 1), element(5, struct.pack("<i", 4)), element(1, b"abc"))), "names do not fit"),
    "struct with too few values": (
        mat(matrix(2, (1, 2), element(5, struct.pack("<i", 4)), element(1, b"abc\0"), matrix(6, (0, 0)))),
        "type 0, where an array was expected|0 bytes of type 0"),
    "a million structs of nothing": (
        mat(matrix(2, (1 << 20, 1 << 10), element(5, struct.pack("<i", 4)), element(1, b"abc\0"))),
        "where an array was expected"),
    "shape of fractions": (mat(element(14, element(6, bytes(8)) + element(9, bytes(16)) + element(1, b"x"))),
                           "whole numbers were expected"),
    "text of fractions": (mat(matrix(4, (1, 1), element(9, bytes(8)))), "whole numbers were expected"),
    "text of negative codes": (mat(matrix(4, (1, 1), element(5, b"\xff" * 4))), "characters that do not exist"),
    "text that is none": (mat(matrix(4, (1, 1), element(16, b"\xff"))), "invalid start byte"),
    "packed and cut short": (mat(element(15, b"x\x9c\x03")[:11]), "cut short"),
    "packed nonsense": (mat(element(15, b"nonsense")), "incorrect header"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = written(tmp_path / "a.mat", data)
    with pytest.raises(DataError, match=message) as caught:
        read_mat(path, "x")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_variable_that_nobody_asked_for_may_be_of_any_class(tmp_path: Path) -> None:
    number = matrix(6, (1, 1), element(9, struct.pack("<d", 4.5)))
    assert read_mat(written(tmp_path / "a.mat", mat(matrix(16, (1, 1), name=b"f"), number)), "x") == 4.5


def test_structs_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(40):
        inner = matrix(1, (1, 1), inner)
    with pytest.raises(DataError, match="nested too deeply"):
        read_mat(written(tmp_path / "a.mat", mat(inner)), "x")


@PACKED
def test_a_file_cut_or_overwritten_anywhere_is_read_or_refused(tmp_path: Path, rng: np.random.Generator,
                                                               packed: bool) -> None:
    """scipy's reader ends the process with a segmentation fault on some of these."""
    content: dict[str, Any] = {"x": {"a": np.eye(3), "b": "text", "c": {"d": 5.0, "e": np.arange(4.0)}}}
    savemat(tmp_path / "a.mat", content, do_compression=packed)
    data = (tmp_path / "a.mat").read_bytes()
    refused = 0
    for _ in range(200):
        at = int(rng.integers(len(data)))
        damaged = data[:at] if rng.random() < 0.3 else data[:at] + rng.bytes(4) + data[at + 4:]
        try:
            read_mat(written(tmp_path / "b.mat", damaged), "x")
        except DataError:
            refused += 1
    assert refused > 50


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_mat(tmp_path / "a.mat", "x")
    with pytest.raises(DataError, match="cannot be read"):
        read_mat(tmp_path, "x")
