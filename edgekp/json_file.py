"""The one reader of JSON: what is too large, too deep, ambiguous or no number is refused. Knows no schema.

Python's own reader takes the last of two values of one name, reads NaN and Infinity, which are no JSON, and turns
1e999 into infinity: each a silent change of what a file says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from edgekp.errors import DataError, EdgekpError
from edgekp.plain_file import read_plain

ANNOTATIONS_BYTES = 2 << 30  # all people of COCO's training set are 0.24 GB
MANIFEST_BYTES = 16 << 20
DEEPEST = 64  # lists and objects in each other; COCO has 5
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Refusal(ValueError):
    """What a text holds that is not taken; becomes an error with the file's name."""


def read_labels(path: Path) -> Any:
    """Parsed JSON of annotations or results; odd numbers and texts are left to its readers, who refuse them by place.

    Raises:
        DataError: It cannot be read, is no JSON, too large or too deep, or an object names something twice.
    """
    return parse_labels(_content(path, ANNOTATIONS_BYTES, DataError), str(path))


def parse_labels(text: bytes | str, where: str) -> Any:
    """As ``read_labels``, from a text; ``where`` names it."""
    return _parsed(text, where, DataError, float)


def read_json(path: Path, limit_bytes: int = ANNOTATIONS_BYTES, error: type[EdgekpError] = DataError) -> Any:
    """Parsed JSON, or an ``error`` that says where it breaks."""
    return parse_json(_content(path, limit_bytes, error), str(path), error)


def parse_json(text: bytes | str, where: str, error: type[EdgekpError] = DataError) -> Any:
    """The value of a JSON text in UTF-8, or an ``error`` that begins with ``where``."""
    value = _parsed(text, where, error, _refuse_constant)
    try:
        for values in _levels(value):
            _check_numbers([number for number in values if type(number) in (int, float)])
            _check_texts([entry for entry in values if type(entry) is str])
    except _Refusal as problem:
        raise error(f"{where}: not a JSON text: {problem}") from problem
    return value


def _content(path: Path, limit_bytes: int, error: type[EdgekpError]) -> bytes:
    try:
        return read_plain(path, limit_bytes)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from problem


def _parsed(text: bytes | str, where: str, error: type[EdgekpError], constant: Callable[[str], float]) -> Any:
    """A value that is not nested too deeply and names nothing twice; ``constant`` makes it of NaN and Infinity."""
    try:
        value = json.loads(_decoded(text) if isinstance(text, bytes) else text, object_pairs_hook=_object,
                           parse_constant=constant)
        for _ in _levels(value):
            pass
    except json.JSONDecodeError as problem:
        raise error(f"{where}: broken JSON at line {problem.lineno}: {problem.msg}; is it cut short?") from problem
    except RecursionError as problem:
        raise error(f"{where}: not a JSON text: nested deeper than {DEEPEST}") from problem
    except ValueError as problem:  # a refusal, or a number of thousands of digits
        raise error(f"{where}: not a JSON text: {problem}") from problem
    return value


def _decoded(data: bytes) -> str:
    if not data.strip():
        raise _Refusal("it is empty; write it again")
    if data.startswith(WIDE_MARKS) or b"\0" in data[:4]:
        raise _Refusal("in UTF-16 or UTF-32, or no text at all; save it as UTF-8")
    try:
        return data.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise _Refusal(f"no UTF-8 at byte {error.start}; save it as UTF-8") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise _Refusal(f"an object names {twice!r:.40} twice; keep one of the two")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise _Refusal(f"{name} is no JSON number; write null, or leave the entry out")


def _levels(value: Any) -> Iterator[Collection[Any]]:
    """What each list and object holds, the names of an object too; refused where they are nested too deeply.

    Lists of plain numbers, which are nearly all of a file of labels, are told by their kinds alone.
    """
    level: list[Collection[Any]] = [[value]]
    for _ in range(DEEPEST + 1):
        deeper: list[Collection[Any]] = []
        for values in level:
            yield values
            kinds = set(map(type, values))
            if dict in kinds:
                tables = [entry for entry in values if type(entry) is dict]
                yield from (table.keys() for table in tables)
                deeper += [table.values() for table in tables]
            if list in kinds:
                deeper += [entry for entry in values if type(entry) is list]
        if not deeper:
            return
        level = deeper
    raise _Refusal(f"nested deeper than {DEEPEST}")


def _check_numbers(numbers: list[float]) -> None:
    try:
        strange = next((number for number in numbers if not isfinite(number)), None)
    except OverflowError:
        strange = max(numbers, key=abs)
    if strange is not None:
        raise _Refusal(f"the number {str(strange)[:20]} is beyond what a computer's numbers hold")


def _check_texts(texts: list[str]) -> None:
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise _Refusal(f"half a character (a lone surrogate) in {text[:40]!a}; write the name again") from error
