"""What a fuzz target is: where to begin, and a parser that takes bytes. Knows none of the parsers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

from edgekp.errors import RecipeError, unknown_name

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        seeds: small inputs to begin with; the first one is accepted without an error.
        reader: given an empty folder, a function that hands bytes to the parser; EdgekpError is a proper refusal.
        words: tokens of the format, which mutations insert.
        mutate: a mutation that knows the format, beside those that every target gets.
    """

    seeds: tuple[bytes, ...]
    reader: Callable[[Path], Read]
    words: tuple[bytes, ...] = ()
    mutate: Callable[[bytes, Random], bytes] | None = None


def target_names() -> list[str]:
    """One for each file in fuzz/targets."""
    return sorted(path.stem for path in (Path(__file__).parent / "targets").glob("[!_]*.py"))


def load_target(name: str) -> Target:
    """Imports the parser, too: a worker does this while what it imports is instrumented."""
    if name not in target_names():
        raise RecipeError(unknown_name("fuzz target", name, ["all", *target_names()]))
    target: Target = import_module(f"fuzz.targets.{name}").TARGET
    return target


def from_file(path: Path, parse: Callable[[], object]) -> Read:
    """For parsers that open a path: the bytes are written there first."""
    def read(data: bytes) -> object:
        path.write_bytes(data)
        return parse()
    return read
