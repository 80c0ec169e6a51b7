"""Seeded mutations of an input: of its bytes, of the words of its format, and of its values where it is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from fuzz.target import Target

SHARE_OF_VALUES = 0.7  # of the mutations of a JSON text, as those of its bytes mostly break it
# What parsers stumble over: other types, edges of number ranges, texts that are no file names.
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 2**31, 2**63, -2**63, 10**400, 1e308, -1e308, 1e-320, float("nan"),
    float("inf"), float("-inf"), "", "0", "nan", "1e999", "a\0b", "\ud800", "../a.png", "/a.png", "x" * 300, [], {},
    [[]], [None], [0] * 51, {"id": None}, [{}], [[[[[[[[[[1]]]]]]]]]])

Bytes = Callable[[bytes, Random, tuple[bytes, ...]], bytes]


def mutated(target: Target, data: bytes, rng: Random, longest: int) -> bytes:
    """One to four changes of an input."""
    for _ in range(rng.randint(1, 4)):
        if target.mutate and rng.random() < SHARE_OF_VALUES:
            data = target.mutate(data, rng)
        else:
            data = _changed_value(data, rng) or rng.choice(OF_BYTES)(data, rng, target.words)
    return data[:longest]


def _changed_value(data: bytes, rng: Random) -> bytes | None:
    """Of a JSON text; None where it is none, or for a change of bytes."""
    if data[:1] not in (b"{", b"[") or rng.random() > SHARE_OF_VALUES:
        return None
    try:
        document = json.loads(data)
        places = list(_places(document))
        if not places:
            return None
        container, key = rng.choice(places)
        _change(container, key, rng, document)
        return json.dumps(document).encode()
    except (ValueError, RecursionError):
        return None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in a document."""
    for key, entry in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        yield value, key
        if isinstance(entry, (dict, list)):
            yield from _places(entry)


def _change(container: Any, key: Any, rng: Random, document: Any) -> None:
    kind = rng.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(key, json.loads(json.dumps(container[key])))
    elif kind == 2 and isinstance(container[key], (int, float)) and abs(container[key]) < 1e300:
        container[key] = container[key] * rng.choice((-1, 0, 2, 0.5, 1e6)) + rng.choice((0, 1, -1))
    elif kind == 3:
        other, place = rng.choice(list(_places(document)))
        container[key] = json.loads(json.dumps(other[place]))
    else:
        container[key] = rng.choice(ODD_VALUES)


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(start + rng.choice((1, 1, 2, 4, 8, 64)), len(data))


def _flip(data: bytes, rng: Random, _words: tuple[bytes, ...]) -> bytes:
    if not data:
        return bytes([rng.randrange(256)])
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]


def _overwrite(data: bytes, rng: Random, _words: tuple[bytes, ...]) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + rng.choice((b"\0", b"\xff", b"9", b"-", rng.randbytes(1))) * (end - start) + data[end:]


def _delete(data: bytes, rng: Random, _words: tuple[bytes, ...]) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _cut(data: bytes, rng: Random, _words: tuple[bytes, ...]) -> bytes:
    return data[:rng.randint(0, len(data))]


def _copy(data: bytes, rng: Random, _words: tuple[bytes, ...]) -> bytes:
    (start, end), at = _span(data, rng), rng.randint(0, len(data))
    return data[:at] + data[start:end] * rng.choice((1, 1, 2, 100)) + data[at:]


def _insert_word(data: bytes, rng: Random, words: tuple[bytes, ...]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(words or (b"\0", b"\xff\xff\xff\xff", b"-1", b"nan", b"1e999")) + data[at:]


def _replace_word(data: bytes, rng: Random, words: tuple[bytes, ...]) -> bytes:
    """By another word of the format, wherever one stands."""
    present = [word for word in words if word in data]
    if not present:
        return _overwrite(data, rng, words)
    return data.replace(rng.choice(present), rng.choice(words), rng.choice((1, 1, -1)))


OF_BYTES: tuple[Bytes, ...] = (_flip, _overwrite, _delete, _cut, _copy, _insert_word, _replace_word)
