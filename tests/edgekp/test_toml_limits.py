"""TOML at the door: files that would stop Python's reader, or keep it busy for hours, are refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter

import pytest

from edgekp.errors import RecipeError
from edgekp.strict import TOML_BYTES, read_toml, toml_value

HOSTILE = {
    "too large": b"#" * (TOML_BYTES + 1), "too deep": b"a = " + b"[" * 100_000,
    "closed": b"a = " + b"[" * 9000 + b"]" * 9000, "tables": b"a = " + b"{a=" * 20_000,
    "a long key": b"a." * 200_000 + b"a = 1", "a long header": b"[" + b"a." * 200_000 + b"a]",
    "quoted": b'"a" . ' * 100_000 + b"a = 1", "in a table": b"x = {" + b"a." * 50_000 + b"a = 1}",
    "digits": b"a = " + b"9" * 5000, "a name twice": b"a = 1\na = 2", "latin-1": b"a = '\xe9'",
    "utf-16": "a = 1".encode("utf-16"), "zeros": bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_and_soon(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(HOSTILE[name])
    began = perf_counter()
    with pytest.raises(RecipeError, match=r"a\.toml: ") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)
    assert perf_counter() - began < 1


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(RecipeError, match="a pipe or a device"):
        read_toml(tmp_path / "a.toml")


def test_a_recipe_with_a_byte_order_mark_and_many_numbers_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    numbers = [0.5 + i for i in range(98)]
    path.write_text(f"a.b.c = {numbers}", encoding="utf-8-sig")
    assert read_toml(path) == {"a": {"b": {"c": numbers}}}


def test_what_is_no_value_is_a_text(tmp_path: Path) -> None:
    for text in ("[" * 10_000, "9" * 5000, "a.b.c", "{" + "a." * 1000 + "a = 1}"):
        assert toml_value(text) == text
