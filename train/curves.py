"""The history of a finished run as files: JSON for the report, a CSV for spreadsheets, a picture for people."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from edgekp.atomic import write_file
from edgekp.stage import say
from train.history import Entry, to_csv


def write_history(folder: Path, history: Sequence[Entry]) -> None:
    """``history.json``, ``history.csv`` and ``curves.png``; the picture needs matplotlib and is otherwise left out."""
    write_file(folder / "history.json", json.dumps(history, indent=1) + "\n")
    write_file(folder / "history.csv", to_csv(history))
    try:
        picture = draw_curves(history)
    except ImportError:
        say(f"train: {folder.name}: no curves.png, matplotlib is not installed: pip install 'matplotlib>=3.8,<4'; "
            "history.csv has the numbers")
        return
    write_file(folder / "curves.png", picture)


def draw_curves(history: Sequence[Entry]) -> bytes:
    """A PNG with a panel for everything but the epoch: the loss on a logarithmic axis, the rest as it is."""
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(name for entry in history for name in entry) if name != "epoch"]
    figure = Figure(figsize=(7, 1 + 1.8 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for name, panel in zip(names, panels, strict=True):
        known = [entry for entry in history if name in entry]
        values = [entry[name] for entry in known]
        panel.plot([entry["epoch"] for entry in known], values, marker="." if len(values) < 30 else "")
        if name == "loss" and min(values) > 0:
            panel.set_yscale("log")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("epoch")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
