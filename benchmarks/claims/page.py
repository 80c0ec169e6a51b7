"""docs/claims.md: the method, written by hand in method.md, and a table of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims.claim_list import CLAIMS
from benchmarks.claims.rows import Row

METHOD = Path(__file__).with_name("method.md")
HEAD = "| claim | what was measured | found | 90 % interval of the gain | verdict |\n|---|---|---|---|---|"


def page(rows: Sequence[Row]) -> str:
    """The whole page; the answers in the order given."""
    table = "\n".join([HEAD, *map(_line, rows)])
    stamps = "\n".join(sorted({f"Measured on {entry['machine']}." for entry in rows if entry.get("machine")}))
    claims = "\n".join(f"* **{name}** {claim.text} ({claim.source})" for name, claim in CLAIMS.items())
    parts = {"claims": claims, "table": table, "stamp": stamps}
    text = METHOD.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def _line(entry: Row) -> str:
    share = entry.get("share_of_epochs", 1)
    note = f"; {entry['note']}" if entry.get("note") else f"; after {share:.0%} of the epochs" if share < 1 else ""
    hardware = f": {entry['hardware']}" if entry.get("hardware") else ""
    cells = entry["claim"], entry.get("about", "") + note, _found(entry), _bounds(entry), entry["verdict"] + hardware
    return f"| {' | '.join(cells)} |"


def _found(entry: Row) -> str:
    """The number, the two sides where there are two, and the size that the source names."""
    if entry["measured"] is None:
        return ""
    sides = (f" ({entry['measure']} {entry['favoured']:.3g} against {entry['other']:.3g})"
             if entry.get("favoured") is not None else "")
    claimed = f"; claimed {_number(entry, entry['claimed'])}" if entry.get("claimed") else ""
    return f"{_number(entry, entry['measured'])}{_unit(entry)}{sides}{claimed}"


def _bounds(entry: Row) -> str:
    return "" if entry.get("lower") is None else f"{_number(entry, entry['lower'])} to {_number(entry, entry['upper'])}"


def _number(entry: Row, value: float) -> str:
    """Shares in per cent, points with three decimals, gains with their sign."""
    sign = "+" if entry.get("lower") is not None or entry.get("favoured") is not None else ""
    if "share" in entry["unit"]:
        return f"{value:{sign}.1%}".replace("%", " %")
    return f"{value:{sign}.3f}" if "points" in entry["unit"] else f"{value:{sign},.0f}"


def _unit(entry: Row) -> str:
    return "" if "share" in entry["unit"] else f" {entry['unit'].removeprefix('points of ').removesuffix(' in 0..1')}"
