"""One variable of a MATLAB file, version 5 to 7, as plain Python. Knows what MATLAB stores, and no data set.

Written after MathWorks' "MAT-File Format". scipy reads the same files 2 to 3 x faster, but 7 of 1,000 with four bytes
overwritten ended the process with a segmentation fault (scipy 1.17); here every damage is a DataError.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekp.errors import DataError
from edgekp.plain_file import read_plain

HEADER_BYTES = 128
VERSION_5, VERSION_73 = 0x0100, 0x0200
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
INT8, MATRIX, COMPRESSED, UTF8, UTF16, UTF32 = 1, 14, 15, 16, 17, 18
CELL, STRUCT, CHAR, FIRST_NUMERIC, LAST_NUMERIC = 1, 2, 4, 6, 15
LARGEST_FILE = 1 << 30
LARGEST_BYTES = 1 << 30  # of one unpacked variable: MPII's has 0.3 GB
LARGEST_RATIO, FREE_BYTES = 100, 1 << 20  # unpacked over packed bytes, and what is granted to the smallest files
LARGEST_CODE = 0xFFFF  # MATLAB stores texts as UTF-16
MOST_DIMENSIONS = 32  # as NumPy before 2: the product of 200,000 of 31 bits would take minutes
DEEPEST = 32  # structs in structs; MPII has 5
NOTHING = (0, memoryview(b""))  # where an element is missing: a type that nobody expects

Numbers = npt.NDArray[Any]


class _Damage(Exception):
    """What is wrong with a file; becomes a DataError with its name."""


def read_mat(path: Path, variable: str) -> Any:
    """The variable: arrays as (rows, columns, ...), 1 x 1 numbers as such, texts, and structs as lists of dicts.

    A struct is a list of dicts whatever its shape, in MATLAB's order; a cell array is a list.

    Raises:
        DataError: No such file, no MATLAB file of version 5 to 7, a damaged one, or no such variable.
    """
    try:
        data = read_plain(path, LARGEST_FILE)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        names = []
        for reader, content in _variables(data):
            name, value = reader.matrix(content, wanted=variable)
            if name == variable:
                return value
            names.append(name)
    except (_Damage, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no MATLAB file, or a damaged one ({error}); fetch it again") from error
    raise DataError(f"{path}: no variable '{variable}'; it has: {', '.join(names) or 'none'}")


def _variables(data: bytes) -> Iterator[tuple[_Reader, memoryview]]:
    """The content of each variable, unpacked, and the reader for its byte order."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER_BYTES])
    version = struct.unpack_from(f"{order}H", data, 124)[0] if order else 0
    if version == VERSION_73:
        raise _Damage("it has version 7.3 (HDF5); save it again with save(name, '-v7')")
    if order is None or version != VERSION_5:
        raise _Damage("it does not begin as one")
    reader = _Reader(order)
    for element in reader.elements(memoryview(data)[HEADER_BYTES:]):
        kind, content = next(reader.elements(_unpacked(element[1])), NOTHING) if element[0] == COMPRESSED else element
        if kind == MATRIX:
            yield reader, content


def _unpacked(content: memoryview) -> memoryview:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(content, min(LARGEST_BYTES, FREE_BYTES + LARGEST_RATIO * len(content)))
    if not unpacker.eof:
        raise _Damage("a packed variable is cut short, or too large")
    return memoryview(data)


class _Reader:
    """Elements of a file in one byte order."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.tag = struct.Struct(f"{order}I")
        self.types = {kind: np.dtype(order + code) for kind, code in NUMBERS.items()}

    def elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """(type, content) of the elements that follow one another; small ones have their content in the tag."""
        at, end = 0, len(data)
        while at < end:
            kind, = self.tag.unpack_from(data, at)
            size = kind >> 16
            start = at + (4 if size else 8)
            if size:
                kind, at = kind & 0xFFFF, at + 8
            else:
                size, = self.tag.unpack_from(data, at + 4)
                at = start + size + (-size % 8 if kind != COMPRESSED else 0)
            content = data[start:start + size]
            if len(content) != size:
                raise _Damage("it is cut short")
            yield kind, content

    def matrix(self, content: memoryview, depth: int = 0, wanted: str | None = None) -> tuple[str, Any]:
        """Name and value of an array; with ``wanted``, the value of any other name is left unread."""
        if not content:
            return "", np.zeros((0, 0))
        if depth > DEEPEST:
            raise _Damage("its structs are nested too deeply")
        parts = self.elements(content)
        flags, dimensions = self._integers(parts), self._integers(parts)
        name = self._take(parts, INT8).decode("ascii", "replace")
        if wanted not in (None, name):
            return name, None
        if not flags or min(dimensions, default=-1) < 0:
            raise _Damage(f"'{name}' has no shape")
        kind, count = flags[0] & 0xFF, math.prod(dimensions)
        if kind == STRUCT:
            return name, self._structs(parts, count, depth)
        if kind == CELL:
            return name, [self._value(parts, depth) for _ in range(count)]
        if kind == CHAR:
            return name, self._text(parts)
        if not FIRST_NUMERIC <= kind <= LAST_NUMERIC:
            raise _Damage(f"'{name}' is of a class that is not read ({kind})")
        return name, self._array(parts, dimensions)

    def _take(self, parts: Iterator[tuple[int, memoryview]], expected: int) -> bytes:
        kind, content = next(parts, NOTHING)
        if kind != expected:
            raise _Damage(f"an element of type {kind}, where {expected} was expected")
        return bytes(content)

    def _integers(self, parts: Iterator[tuple[int, memoryview]], most: int = MOST_DIMENSIONS) -> list[int]:
        values = self._numbers(*next(parts, NOTHING))
        if len(values) > most:
            raise _Damage(f"{len(values)} numbers, where {most} at most were expected")
        if values.dtype.kind not in "iu":
            raise _Damage("fractions, where whole numbers were expected")
        integers: list[int] = values.tolist()
        return integers

    def _numbers(self, kind: int, content: memoryview) -> Numbers:
        if kind not in NUMBERS or len(content) % self.types[kind].itemsize:
            raise _Damage(f"{len(content)} bytes of type {kind}, expected numbers")
        return np.frombuffer(content, self.types[kind])

    def _value(self, parts: Iterator[tuple[int, memoryview]], depth: int) -> Any:
        kind, content = next(parts, NOTHING)
        if kind != MATRIX:
            raise _Damage(f"an element of type {kind}, where an array was expected")
        return self.matrix(content, depth + 1)[1]

    def _structs(self, parts: Iterator[tuple[int, memoryview]], count: int, depth: int) -> list[dict[str, Any]]:
        lengths, names = self._integers(parts), self._take(parts, INT8)
        length = lengths[0] if lengths else 0
        if length < 1 or len(names) % length:
            raise _Damage("a struct whose field names do not fit")
        fields = [names[at:at + length].split(b"\0")[0].decode("ascii", "replace")
                  for at in range(0, len(names), length)]
        if not fields:
            return []
        return [{field: self._value(parts, depth) for field in fields} for _ in range(count)]

    def _text(self, parts: Iterator[tuple[int, memoryview]]) -> str:
        kind, content = next(parts, NOTHING)
        if kind in (UTF8, UTF16, UTF32):
            end = {"<": "le", ">": "be"}[self.order]
            return bytes(content).decode({UTF8: "utf-8", UTF16: f"utf-16-{end}", UTF32: f"utf-32-{end}"}[kind])
        codes = self._integers(iter([(kind, content)]), len(content)) if content else []
        if not all(0 <= code <= LARGEST_CODE for code in codes):
            raise _Damage("a text of characters that do not exist")
        return "".join(map(chr, codes))

    def _array(self, parts: Iterator[tuple[int, memoryview]], dimensions: list[int]) -> Any:
        values = self._numbers(*next(parts, NOTHING))
        try:
            array = values.reshape(dimensions, order="F")
        except ValueError as error:  # too few, too many, or beyond what an array can have
            raise _Damage(f"{len(values)} numbers for {' x '.join(map(str, dimensions))}") from error
        return array.item() if array.size == 1 else array
