"""The findings as text for people and as records for scripts."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekp.doctor.dataset import DataSet
from edgekp.doctor.finding import SEVERITIES, Finding
from edgekp.doctor.summary import line
from edgekp.printable import printable

WIDTH = 110


def text(sets: Sequence[DataSet], findings: Sequence[Finding], unseen: Sequence[str]) -> str:
    """What was looked at, a table, then what each finding costs and how it is mended.

    Args:
        unseen: what was not looked at, a line each.
    """
    head = [f"{data.name}: {line(data)}" for data in sets] + [f"not looked at: {what}" for what in unseen]
    explained = [said for finding in findings for said in _explained(finding)]
    lines = [*head, "", *_table(findings), *explained, *[""] * bool(findings), verdict(findings)]
    return "\n".join(map(printable, lines))


def mending(path: Path, changes: dict[str, int]) -> str:
    """What ``--fix`` did."""
    said = [f"  {code}: {count} mended" for code, count in changes.items()] or ["  nothing that has one right answer"]
    return "\n".join([printable(f"{path}:"), *said])


def verdict(findings: Sequence[Finding]) -> str:
    """How many kinds of errors, warnings and notes there are."""
    counts = Counter(finding.fault.severity for finding in findings)
    said = [f"{counts[severity]} {severity}{'s' if counts[severity] != 1 else ''}"
            for severity in SEVERITIES if counts[severity]]
    return ", ".join(said) or "nothing found"


def records(findings: Sequence[Finding]) -> str:
    """A JSON list, one flat record a finding."""
    return json.dumps([{
        "code": finding.fault.code, "severity": finding.fault.severity, "count": finding.count,
        "fixable": finding.fault.fixable, "what": finding.fault.what, "why": finding.fault.why,
        "mend": finding.fault.mend, "examples": [str(example) for example in finding.examples],
    } for finding in findings], indent=1)


def _table(findings: Sequence[Finding]) -> list[str]:
    rows = [("code", "severity", "count", "first example")]
    rows += [(finding.fault.code, finding.fault.severity, str(finding.count), str(finding.examples[0]))
             for finding in findings]
    code, severity, count = (max(len(row[column]) for row in rows) for column in range(3))
    return [f"{row[0]:{code}}  {row[1]:{severity}}  {row[2]:>{count}}  {row[3]}" for row in rows] if findings else []


def _explained(finding: Finding) -> Iterator[str]:
    fault = finding.fault
    yield ""
    yield f"{fault.code} ({fault.severity}, {finding.count}): {fault.what}"
    for label, said in (("why", fault.why), ("mend", fault.mend)):
        yield from textwrap.wrap(said, WIDTH, initial_indent=f"  {label:5}", subsequent_indent=" " * 7)
    for label, example in zip(("e.g.", "", ""), finding.examples, strict=False):
        yield f"  {label:5}{example}"
