"""The outcomes as a table, for the terminal and for docs/reliability.md. Knows how nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekp.errors import DataError

COLUMNS = ("tried", "survived", "lost", "silent")
BEGIN, END = "<!-- the table of `make faults` -->", "<!-- end of the table -->"


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Aligned, with the sums below."""
    head = f"{'fault':22}" + "".join(f"{name:>10}" for name in (*COLUMNS, "seconds"))
    lines = [f"{row['fault']:22}" + "".join(f"{row[name]:>10}" for name in (*COLUMNS, "seconds")) for row in rows]
    sums = f"{'all':22}" + "".join(f"{sum(row[name] for row in rows):>10}" for name in COLUMNS)
    return "\n".join([head, *lines, sums])


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """With what the usual libraries do, and the sums."""
    head = f"| fault | {' | '.join(COLUMNS)} | the usual way |\n|---|---|---|---|---|---|"
    lines = [f"| {row['fault']} | {' | '.join(str(row[name]) for name in COLUMNS)} | {_usual(row)} |" for row in rows]
    sums = " | ".join(str(sum(row[name] for row in rows)) for name in COLUMNS)
    return "\n".join([head, *lines, f"| all | {sums} | |"])


def write_into(page: Path, rows: Sequence[dict[str, Any]], text: str) -> str:
    """The page's text with the table between its two marks.

    Raises:
        DataError: The marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{page}: the table goes between '{BEGIN}' and '{END}', which are not there; put them back")
    return f"{before}{BEGIN}\n\n{as_markdown(rows)}\n\n{END}{after}"


def _usual(row: dict[str, Any]) -> str:
    if not row.get("usual_way"):
        return ""
    counts = [f"{row[f'usual_{name}']} {name}" for name in ("lost", "silent") if row[f"usual_{name}"]]
    return f"{row['usual_way']}: {' and '.join(counts) or 'none lost or silent'} of {row['usual_tried']}"
