"""What one check found, as a record and as a line of a table. Knows no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from edgekp.errors import EdgekpError

Verdict = Literal["pass", "fail", "skipped"]


class Skip(Exception):
    """Why a check cannot run here; no failure."""


@dataclass(frozen=True)
class Found:
    """One number of a check.

    Attributes:
        at_most, at_least: what it is held against; neither where it is there to be known.
        reason: what else there is to say.
    """

    check: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    reason: str = ""

    @property
    def holds(self) -> bool:
        """NaN and infinity never do."""
        return (isfinite(self.value) and (self.at_most is None or self.value <= self.at_most)
                and (self.at_least is None or self.value >= self.at_least))

    @property
    def limit(self) -> str | None:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else None


@dataclass(frozen=True)
class Record:
    """One line of the result; the fields are those of the JSON file."""

    check: str
    value: float | None
    unit: str | None
    limit: str | None
    verdict: Verdict
    reason: str | None
    machine: str

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "reason" or value}


def records_of(check: str, machine: str, work: Callable[[], Sequence[Found]]) -> list[Record]:
    """All that a check finds; one record where it cannot run or goes wrong."""
    try:
        found = work()
    except Skip as skip:
        return [skipped(check, machine, str(skip))]
    except EdgekpError as error:
        return [Record(check, None, None, None, "fail", str(error), machine)]
    return [_judged(each, machine) for each in found]


def _judged(found: Found, machine: str) -> Record:
    value, reason = (found.value, found.reason) if isfinite(found.value) else (None, f"found {found.value}")
    verdict: Verdict = "pass" if found.holds else "fail"
    return Record(found.check, value, found.unit, found.limit, verdict, reason or None, machine)


def skipped(check: str, machine: str, reason: str) -> Record:
    return Record(check, None, None, None, "skipped", reason, machine)


def line(record: Record) -> str:
    """One record, aligned."""
    value = "" if record.value is None else f"{record.value:.4g} {record.unit}"
    verdict = record.verdict.upper() if record.verdict == "fail" else record.verdict
    return f"{record.check:46} {value:>16}  {record.limit or '':10} {verdict:8} {record.reason or ''}".rstrip()
