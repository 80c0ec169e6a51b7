"""What the doctor finds: a fault, how often it was met, and where. Knows no check and no output format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgekp.doctor.dataset import DataSet
from edgekp.sample import Bool, Int

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first
EXAMPLES = 3  # places that a finding names


@dataclass(frozen=True)
class Fault:
    """A kind of mistake.

    Attributes:
        code: stable short name.
        what: the mistake, in a few words.
        why: what it costs.
        mend: what to do about it.
        fixable: ``--fix`` mends it, within the limits that ``mend`` names.
    """

    code: str
    severity: Severity
    what: str
    why: str
    mend: str
    fixable: bool = False


@dataclass(frozen=True)
class Shot:
    """Something to draw: a picture, and the annotations on it, as rows of the data set."""

    data: DataSet
    image: int
    annotations: tuple[int, ...] = ()


@dataclass(frozen=True)
class Example:
    """One place where a fault was met, and what stands there."""

    place: str
    value: str
    shots: tuple[Shot, ...] = ()

    def __str__(self) -> str:
        return f"{self.place}: {self.value}"


@dataclass(frozen=True)
class Finding:
    """A fault that was met ``count`` times, with the first places."""

    fault: Fault
    count: int
    examples: tuple[Example, ...]


def at_annotations(fault: Fault, data: DataSet, where: Bool | Int,
                   value: Callable[[int], str]) -> Iterator[Finding]:
    """A finding if a row of annotations is marked; ``value`` says what stands in a row.

    Args:
        where: (N,) marks, or the rows themselves.
    """
    rows = rows_of(where)
    examples = tuple(Example(data.name_annotation(row), value(row), (_shot(data, row),)) for row in rows[:EXAMPLES])
    yield from _counted(fault, len(rows), examples)


def at_keypoints(fault: Fault, data: DataSet, marked: Bool, value: Callable[[int], str]) -> Iterator[Finding]:
    """The same for rows in which one of the K keypoints is marked; ``marked`` is (N, K)."""
    yield from at_annotations(fault, data, np.flatnonzero(marked.any(-1)), value)


def at_images(fault: Fault, data: DataSet, where: Bool | Int, value: Callable[[int], str]) -> Iterator[Finding]:
    """The same for rows of images."""
    rows = rows_of(where)
    examples = tuple(Example(data.name_image(row), value(row), (Shot(data, row, data.annotations_of(row)),))
                     for row in rows[:EXAMPLES])
    yield from _counted(fault, len(rows), examples)


def at_places(fault: Fault, places: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """A finding from (place, what stands there), for what is neither one annotation nor one image."""
    yield from found(fault, [Example(place, value) for place, value in places])


def at_set(fault: Fault, data: DataSet, is_met: object, value: str) -> Iterator[Finding]:
    """A finding about the whole set if ``is_met``."""
    yield from at_places(fault, [(data.name, value)] if is_met else [])


def found(fault: Fault, examples: Sequence[Example]) -> Iterator[Finding]:
    """A finding if there is an example; ``examples`` are all places."""
    yield from _counted(fault, len(examples), tuple(examples[:EXAMPLES]))


def rows_of(where: Bool | Int) -> list[int]:
    """Row numbers of a mask; row numbers stay as they are."""
    rows = np.flatnonzero(where) if where.dtype == bool else where
    return [int(row) for row in rows]


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """One finding a fault, counted over all files; the worst come first."""
    by_code: dict[str, Finding] = {}
    for finding in findings:
        known = by_code.setdefault(finding.fault.code, replace(finding, count=0, examples=()))
        by_code[finding.fault.code] = replace(known, count=known.count + finding.count,
                                              examples=(known.examples + finding.examples)[:EXAMPLES])
    return sorted(by_code.values(), key=lambda finding: SEVERITIES.index(finding.fault.severity))


def _shot(data: DataSet, row: int) -> Shot:
    return Shot(data, int(data.image_row[row]), (row,))


def _counted(fault: Fault, count: int, examples: tuple[Example, ...]) -> Iterator[Finding]:
    if count:
        yield Finding(fault, count, examples)
