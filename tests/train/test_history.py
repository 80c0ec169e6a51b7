"""The history knows its best epoch and when it stands still."""

from __future__ import annotations

import csv
import io

import pytest

from train.history import ERROR, PCK, Entry, Monitor, best_entry, has_stalled, to_csv


def history(monitor: Monitor, *values: float | None) -> list[Entry]:
    """One epoch a value, None where it was not validated."""
    return [{"epoch": float(epoch), "loss": 1 / epoch} | ({} if value is None else {monitor.name: value})
            for epoch, value in enumerate(values, 1)]


@pytest.mark.parametrize(("monitor", "values", "epoch"), [
    (PCK, (0.1, 0.5, None, 0.4), 2), (ERROR, (0.1, 0.5, None, 0.09), 4), (PCK, (0.5, 0.5), 1), (ERROR, (0.5, 0.5), 1)])
def test_the_best_epoch_is_the_first_with_the_best_value(
        monitor: Monitor, values: tuple[float | None, ...], epoch: int) -> None:
    best = best_entry(history(monitor, *values), monitor)
    assert best is not None
    assert best["epoch"] == epoch


def test_without_a_validation_there_is_no_best() -> None:
    assert best_entry(history(PCK, None, None), PCK) is None
    assert not has_stalled(history(PCK, None, None), PCK, 1)


@pytest.mark.parametrize(("values", "patience", "stalled"), [
    ((0.5, 0.4), 2, False), ((0.5, 0.4, 0.4), 2, True), ((0.5, 0.4, None, None), 2, False), ((0.5, 0.4, 0.6), 2, False),
    ((0.5, 0.5, 0.5), 2, True), ((0.5, 0.4, 0.4), 0, False)])
def test_it_stalls_after_that_many_validations_without_something_better(
        values: tuple[float | None, ...], patience: int, stalled: bool) -> None:
    assert has_stalled(history(PCK, *values), PCK, patience) is stalled
    mirrored = history(ERROR, *(None if value is None else -value for value in values))
    assert has_stalled(mirrored, ERROR, patience) is stalled


def test_the_table_has_a_line_an_epoch_and_says_every_number_exactly() -> None:
    entries = history(PCK, None, 1 / 3, None)
    rows = list(csv.DictReader(io.StringIO(to_csv(entries))))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in entries]
    assert [row[PCK.name] for row in rows] == ["", str(1 / 3), ""]
