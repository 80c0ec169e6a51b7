"""The models of a run beside each other, as text: accuracy, cost and the change against float. Knows no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from edgekp.recipe import Eval
from eval.metrics import metric_chosen
from eval.table import MISSING, SHOWN

Record = dict[str, Any]
LOWER_IS_BETTER = ("nme", "failure_rate")  # beginnings of names


@dataclass(frozen=True)
class Cell:
    """A number, and how it differs from the float baseline's; empty for the baseline itself."""

    text: str
    change: str = ""


@dataclass(frozen=True)
class Row:
    """One number of every model."""

    label: str
    cells: list[Cell]


@dataclass(frozen=True)
class Group:
    """Rows that belong together."""

    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Cost:
    """A number that does not depend on the data."""

    label: str
    of: Callable[[Record], float | None]
    spell: Callable[[float], str]


def _millions(count: float) -> str:
    return f"{count / 1e6:.2f} M"


def _milliseconds(time_ms: float) -> str:
    return f"{time_ms:.2f} ms"


COSTS = (Cost("size", lambda record: record["size_bytes"], lambda size: f"{size / 1e6:.2f} MB"),
         Cost("parameters", lambda record: record["parameters"], _millions),
         Cost("MACs", lambda record: record["macs"], _millions),
         Cost("latency p50", lambda record: record["latency_ms"]["p50"], _milliseconds),
         Cost("latency p90", lambda record: record["latency_ms"]["p90"], _milliseconds),
         Cost("latency p99", lambda record: record["latency_ms"]["p99"], _milliseconds))


def compared(records: Sequence[Record]) -> list[Group]:
    """Accuracy on each validation set, then cost; the models of each row in the order of the records."""
    by_data = {data: list(entries) for data, entries in groupby(records, key=lambda record: str(record["data"]))}
    groups = [Group(f"{data}, {entries[0]['instances']} instances", _accuracy_rows(entries))
              for data, entries in by_data.items()]
    return [*groups, Group("Cost", _cost_rows(next(iter(by_data.values()))))]


def headline(choice: Eval) -> str:
    """A metric's main number among those of a record; of AP, the one that people know."""
    return "AP" if choice.metric == "oks_ap" else metric_chosen(choice).judged


def headline_change(records: Sequence[Record], choice: Eval) -> str:
    """``int8 against float on val: nme 5.01 % -> 5.08 %, 3.82 MB -> 0.71 MB, 2.31 ms -> 1.16 ms (1.99x as fast)``."""
    first, last = records[0], records[-1]
    name = headline(choice)
    pairs = [" ".join([name, _from_to(first, last, lambda record: _accuracy(name, record["metrics"].get(name)))])]
    pairs += [_from_to(first, last, lambda record: COSTS[0].spell(record["size_bytes"])),
              _from_to(first, last, lambda record: _milliseconds(record["latency_ms"]["p50"]))]
    return (f"{last['model']} against {first['model']} on {first['data']}: {', '.join(pairs)} "
            f"({_speed_up(first, last)} as fast)")


def _from_to(first: Record, last: Record, spell: Callable[[Record], str]) -> str:
    """Two numbers with their units, which no line break parts."""
    return f"{spell(first)} → {spell(last)}".replace(" ", "\N{NO-BREAK SPACE}")


def _accuracy_rows(records: list[Record]) -> list[Row]:
    names = [name for name in SHOWN if any(name in record["metrics"] for record in records)]
    baseline = records[0]["metrics"]
    return [Row(name, [Cell(_accuracy(name, record["metrics"].get(name)),
                            _accuracy_change(name, baseline.get(name), record["metrics"].get(name)) if number else "")
                       for number, record in enumerate(records)]) for name in names]


def _cost_rows(records: list[Record]) -> list[Row]:
    rows = [Row("precision", [Cell(record["precision"] or MISSING) for record in records])]
    for cost in COSTS:
        values = [cost.of(record) for record in records]
        rows.append(Row(cost.label, [Cell(MISSING if value is None else cost.spell(value),
                                          _share(values[0], value) if number else "")
                                     for number, value in enumerate(values)]))
    speed_ups = [Cell(_speed_up(records[0], record)) for record in records]
    return [*rows, Row("speed-up at p50", speed_ups)]


def _accuracy(name: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{100 * value:.2f} %" if name.startswith(LOWER_IS_BETTER) else f"{value:.4f}"


def _accuracy_change(name: str, before: float | None, after: float | None) -> str:
    """Relative for NME, as its gate judges it; the plain difference for the others."""
    if before is None or after is None:
        return ""
    if name.startswith("nme"):
        return _share(before, after)
    if name.startswith(LOWER_IS_BETTER):
        return _signed(f"{100 * (after - before):+.2f} pp")
    return _signed(f"{after - before:+.4f}")


def _share(before: float | None, after: float | None) -> str:
    return _signed(f"{100 * (after / before - 1):+.1f} %") if before and after is not None else ""


def _signed(text: str) -> str:
    """With a minus sign as wide as the plus."""
    return text.replace("-", "\N{MINUS SIGN}")


def _speed_up(first: Record, record: Record) -> str:
    return f"{first['latency_ms']['p50'] / record['latency_ms']['p50']:.2f}\N{MULTIPLICATION SIGN}"
