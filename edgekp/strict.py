"""TOML read strictly into frozen dataclasses: what is unknown, missing or of another type is refused by name.

Knows no setting of its own; the dataclasses' annotations say what is expected.
"""

from __future__ import annotations

import re
import sys
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgekp.errors import RecipeError, unknown_name
from edgekp.plain_file import read_plain

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

T = TypeVar("T")

TOML_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MOST_PARTS = 32
LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)""" f"{{{MOST_PARTS}}}")


def read_toml(path: Path) -> dict[str, Any]:
    """Parsed TOML, or a RecipeError that says where it breaks."""
    try:
        text = read_plain(path, TOML_BYTES).removeprefix(BYTE_ORDER_MARK).decode()
        return _parsed(text)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; see recipes/ for those that come along") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits, or too deep
        raise RecipeError(f"{path}: not a TOML file: {error}") from error


def toml_value(text: str) -> Any:
    """A value as TOML reads it; what is no TOML value is a plain string."""
    try:
        return _parsed(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _parsed(text: str) -> dict[str, Any]:
    """TOML whose keys have few parts: Python's reader needs hours for one of 100,000."""
    if LONG_KEY.search(text):
        raise ValueError(f"a key of more than {MOST_PARTS} parts")
    return dict(tomllib.loads(text))


def strict(kind: type[T], table: Any, where: str) -> T:
    """Build a dataclass from a TOML table, refusing what it does not know."""
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: {table!r}, expected a table")
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise RecipeError(unknown_name("key", f"{where}.{key}".lstrip("."), list(known)))
    missing = [name for name, entry in known.items() if name not in table
               and entry.default is MISSING and entry.default_factory is MISSING]
    if missing:
        raise RecipeError(f"{where or 'recipe'}: lacks {', '.join(missing)}; add it")
    return kind(**{key: _convert(hints[key], value, f"{where}.{key}".lstrip(".")) for key, value in table.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    """``value`` as the annotated type, or a RecipeError that says what was expected."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        members = [member for member in arguments if member is not type(None)]
        return _convert(members[0] if len(members) == 1 else _by_method(members, value, where), value, where)
    if origin is Literal:
        if value not in arguments:
            raise RecipeError(f"{where}: {unknown_name('choice', str(value), [str(a) for a in arguments])}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if is_dataclass(kind):
        return strict(kind, value, where)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = dict if origin is dict else kind
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise RecipeError(f"{where}: {value!r}, expected {'a table' if plain is dict else plain.__name__}")
    return value


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise RecipeError(f"{where}: {value!r}, expected a list")
    if arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if len(value) != len(arguments):
        raise RecipeError(f"{where}: {value!r}, expected {len(arguments)} values")
    return tuple(_convert(kind, entry, f"{where}[{i}]")
                 for i, (kind, entry) in enumerate(zip(arguments, value, strict=True)))


def _by_method(members: list[Any], table: Any, where: str) -> Any:
    """Of several dataclasses, the one whose field ``method`` has the table's value."""
    by_name = {get_args(get_type_hints(member)["method"])[0]: member for member in members}
    method = table.get("method") if isinstance(table, dict) else None
    if method not in by_name:
        raise RecipeError(f"{where}: {unknown_name('method', str(method), list(by_name))}")
    return by_name[method]


def require_above_zero(where: str, settings: Any, *names: str) -> None:
    """Refuse a table of which one of the named numbers is 0, negative or NaN."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise RecipeError(f"{where}.{name}: {getattr(settings, name)!r}, expected a number above 0")
