"""JSON at the door: what it says comes through, and what Python would read otherwise than it stands is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgekp.errors import ArtifactError, DataError
from edgekp.json_file import DEEPEST, MANIFEST_BYTES, parse_json, parse_labels, read_json, read_labels

VALUE = {"a": [1, 2.5, None, True, "é"], "b": {"c": [], "d": [[{}]]}, "big": 2**53, "small": -1e-300}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_value_comes_through_as_it_was_written(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUE, ensure_ascii=False), encoding=encoding)
    assert read_json(path) == read_labels(path) == VALUE


BROKEN = {
    "empty": (b"", "empty"), "blank": (b" \n", "empty"), "binary": (bytes(range(1, 200)), "no UTF-8|broken JSON"),
    "zeros": (bytes(50), "UTF-16"), "utf-16": ("{}".encode("utf-16"), "save it as UTF-8"),
    "utf-16 without a mark": ("{}".encode("utf-16-le"), "save it as UTF-8"),
    "utf-32": ("{}".encode("utf-32"), "save it as UTF-8"), "latin-1": (b'{"a": "\xe9"}', "no UTF-8 at byte 7"),
    "cut short": (b'{"a": [1,\n 2', "broken JSON at line 2"), "two values": (b"{} {}", "broken JSON"),
    "a name twice": (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}', "names 'c' twice"),
    "too deep": (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), f"deeper than {DEEPEST}"),
    "far too deep": (b'[{"a":' * 100_000, "deeper than|broken JSON"),
}
NO_NUMBERS = {"NaN": "NaN is no JSON number", "Infinity": "Infinity is no", "-Infinity": "no JSON number",
              "1e999": "number inf is beyond", "-1e999": "-inf is beyond", "9" * 400: "beyond what"}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_clear_json_is_refused_by_both_readers(tmp_path: Path, name: str) -> None:
    data, reason = BROKEN[name]
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.json: .*({reason})"):
        read_labels(path)
    with pytest.raises(ArtifactError, match=rf"a\.json: .*({reason})"):
        read_json(path, error=ArtifactError)


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("place", ["%s", "[1, %s]", '{"a": [0.5, "x", %s]}'])
def test_what_is_no_number_is_refused_in_manifests_and_left_to_the_readers_of_labels(number: str, place: str) -> None:
    with pytest.raises(DataError, match=f"manifest: .*{NO_NUMBERS[number]}"):
        parse_json(place % number, "manifest")
    parse_labels(place % number, "labels")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older Pythons read numbers of any length")
def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(DataError, match="not a JSON text"):
        parse_labels("[" + "9" * 5000 + "]", "labels")


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udfff": 1}', r'[["a", "\ud800b"]]'])
def test_half_a_character_is_refused_and_a_whole_pair_is_not(text: str) -> None:
    with pytest.raises(DataError, match="half a character"):
        parse_json(text, "manifest")
    assert parse_json(r'"\ud83d\ude00"', "manifest") == "\N{GRINNING FACE}"


def test_the_deepest_that_is_allowed_is_read() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST, "manifest") is not None


def test_a_manifest_beyond_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * MANIFEST_BYTES + b"1")
    assert read_labels(path) == 1
    with pytest.raises(DataError, match="at most 16 MB"):
        read_json(path, MANIFEST_BYTES)
