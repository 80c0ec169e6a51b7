"""The history of a run, one entry an epoch: its best epoch, when it stands still, and the table of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

Entry = dict[str, float]  # epoch (from 1), loss, lr, and val_ metrics where the epoch was validated


@dataclass(frozen=True)
class Monitor:
    """The metric of an entry that early stop goes by."""

    name: str
    higher_is_better: bool


PCK = Monitor("val_pck@0.2", higher_is_better=True)
ERROR = Monitor("val_error", higher_is_better=False)
SCENE_AP = Monitor("val_ap@0.5", higher_is_better=True)  # of networks that are shown whole images
MONITORS = {"oks_ap": PCK, "pck": PCK, "nme": ERROR}  # by eval.metric: what is nearest to it among the quick metrics


def best_entry(history: Sequence[Entry], monitor: Monitor) -> Entry | None:
    """The validated entry with the best value, the first of several; None where none was validated."""
    validated = [entry for entry in history if monitor.name in entry]
    sign = 1 if monitor.higher_is_better else -1
    return max(validated, key=lambda entry: sign * entry[monitor.name], default=None)


def has_stalled(history: Sequence[Entry], monitor: Monitor, patience: int) -> bool:
    """Whether the last ``patience`` validations brought nothing better; never with ``patience`` 0."""
    best = best_entry(history, monitor)
    if best is None or patience == 0:
        return False
    since = [entry for entry in history if monitor.name in entry and entry["epoch"] > best["epoch"]]
    return len(since) >= patience


def to_csv(history: Sequence[Entry]) -> str:
    """A table with one line an epoch, and a column for everything that some epoch knows."""
    columns = list(dict.fromkeys(name for entry in history for name in entry))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({**entry, "epoch": int(entry["epoch"])} for entry in history)
    return text.getvalue()
