"""Verdicts: what a gate found, in one shape for people, scripts and CI. Knows no metric and no model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from edgekp.atomic import write_file
from edgekp.errors import EdgekpError
from edgekp.printable import printable
from edgekp.whole_line import append_whole

Outcome = Literal["pass", "undecided", "fail"]
ORDER: tuple[Outcome, ...] = ("pass", "undecided", "fail")  # from best to worst
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "undecided": 3}
SPELLED: dict[Outcome, str] = {"pass": "pass", "undecided": "undecided", "fail": "FAIL"}


@dataclass(frozen=True)
class Verdict:
    """One gate's judgement of one candidate. Its texts are one printable line each, whatever names are in them.

    Attributes:
        gate: what was judged: ``AP``, ``nme``, ``latency``.
        subject: candidate and data, where a run has several.
        change: baseline -> candidate, for people.
        reason: why this outcome, in one line.
        numbers: what the reason rests on, with units in the names.
        binding: False for what is only told: a model on the way to the one that is shipped.
    """

    gate: str
    subject: str
    outcome: Outcome
    change: str
    reason: str
    numbers: dict[str, Any]
    binding: bool = True

    def __post_init__(self) -> None:
        for name in ("gate", "subject", "change", "reason"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def spelled(self) -> str:
        return SPELLED[self.outcome] if self.binding else f"({self.outcome})"


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """The outcome of all that bind: one failure fails, else one undecided leaves all undecided."""
    return max((verdict.outcome for verdict in verdicts if verdict.binding), key=ORDER.index)


def as_lines(verdicts: Sequence[Verdict]) -> str:
    """``gate   AP   int8 on val   0.712 -> 0.706   drop 0.006 of 0.010 allowed   pass``, in columns."""
    rows = [["gate", verdict.gate, verdict.subject, verdict.change, verdict.reason, verdict.spelled]
            for verdict in verdicts]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip()
             for row in rows]
    if not all(verdict.binding for verdict in verdicts):
        lines.append("(in brackets: models on the way to the last one, told but not binding)")
    return "\n".join(lines)


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {"verdict": worst(verdicts), "exit_code": EXIT_CODES[worst(verdicts)],
            "gates": [asdict(verdict) for verdict in verdicts]}


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """A table for a pull request's comment."""
    head = [f"## Gate: {SPELLED[worst(verdicts)]}", "",
            "| gate | subject | baseline -> candidate | reason | verdict |", "|---|---|---|---|---|"]
    rows = [f"| {' | '.join(_cell(text) for text in (v.gate, v.subject, v.change, v.reason, v.spelled))} |"
            for v in verdicts]
    return "\n".join([*head, *rows]) + "\n"


def as_junit(verdicts: Sequence[Verdict]) -> str:
    """One test case a gate. JUnit has no word for undecided or not binding: they stand as skipped, with the reason."""
    failures = [verdict for verdict in verdicts if verdict.outcome == "fail" and verdict.binding]
    passes = [verdict for verdict in verdicts if verdict.outcome == "pass"]
    suite = ElementTree.Element("testsuite", name="edgekp gate", tests=str(len(verdicts)), errors="0",
                                failures=str(len(failures)),
                                skipped=str(len(verdicts) - len(failures) - len(passes)))
    for verdict in verdicts:
        name = f"{verdict.gate} {verdict.subject}".strip()
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=name)
        message = f"{verdict.change}: {verdict.reason}"
        if verdict in failures:
            ElementTree.SubElement(case, "failure", message=message)
        elif verdict not in passes:
            ElementTree.SubElement(case, "skipped", message=f"{verdict.spelled}: {message}")
        ElementTree.SubElement(case, "system-out").text = message
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def append_line(path: Path, verdicts: Sequence[Verdict]) -> None:
    """One more line of JSON at the end of a history. It only tells: what decides is measured anew each time.

    Raises:
        EdgekpError: The file cannot be written.
    """
    line = {"time": datetime.now(timezone.utc).isoformat(timespec="seconds"), **as_json(verdicts)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            append_whole(file, (json.dumps(line, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise EdgekpError(f"{path}: cannot be written ({error.strerror})") from error


def write_output(path: Path, text: str) -> None:
    """Write a file that the user asked for.

    Raises:
        EdgekpError: It cannot be written there.
    """
    try:
        write_file(path, text)
    except OSError as error:
        raise EdgekpError(f"{path}: cannot be written ({error.strerror})") from error


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: a NaN here would be our own bug, and unreadable for others."""
    write_output(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _cell(text: str) -> str:
    """As text that begins no other cell, code, link, picture or HTML."""
    return re.sub(r"([\\`\[<|])", r"\\\1", text)
