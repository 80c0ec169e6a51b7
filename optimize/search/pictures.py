"""The front as a picture, and as one HTML page that needs no other file. Measures nothing.

Axes are matplotlib's; it is optional here, so that no type of it is named.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from edgekp.atomic import write_file
from optimize.search.answer import Answer, Record

TEMPLATE = "page_template.html"
MARKERS = {"fp32": ("o", "#0b6bcb", "float"), "int8": ("s", "#c2500a", "int8")}
QUIET = "#80868c"


def write_pictures(answer: Answer, folder: Path) -> None:
    """``front.png`` and ``front.html``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    picture = draw(answer)
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    page = pages.get_template(TEMPLATE).render(answer=answer, picture=base64.b64encode(picture).decode())
    write_file(folder / "front.png", picture)
    write_file(folder / "front.html", page)


def draw(answer: Answer) -> bytes:
    """A PNG of accuracy over latency; better is up and left. Candidates without accuracy are ticks at the bottom."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"text.parse_math": False, "font.size": 9, "axes.axisbelow": True}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.subplots()
        trained = [record for record in answer.shown if record.accuracy is not None]
        for precision, (marker, color, label) in MARKERS.items():
            if of_it := [record for record in trained if record.precision == precision]:
                axes.scatter([record.p50_ms for record in of_it], [record.accuracy or 0.0 for record in of_it],
                             marker=marker, color=color, label=label, zorder=3)
        _draw_front(axes, answer, trained)
        _draw_untrained(axes, [record for record in answer.shown if record.accuracy is None])
        _describe(axes, answer)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _draw_front(axes: Any, answer: Answer, trained: list[Record]) -> None:
    """The staircase of what can be had for each latency, and the names: of the front above their points."""
    from matplotlib.patheffects import withStroke

    if front := [record for record in trained if record.on_front]:
        axes.step([record.p50_ms for record in front], [record.accuracy or 0.0 for record in front], where="post",
                  color=QUIET, linewidth=1, label="Pareto front")
    for record in trained:
        best = record.name == answer.best
        axes.annotate(record.name, (record.p50_ms, record.accuracy or 0.0), (6, 6 if record.on_front else -3),
                      textcoords="offset points", fontsize=9 if best else 7, fontweight="bold" if best else "normal",
                      color="black" if record.on_front else QUIET, zorder=2.5,  # above lines, below points
                      path_effects=[withStroke(linewidth=3, foreground="white")])
        if best:
            axes.scatter([record.p50_ms], [record.accuracy or 0.0], s=150, facecolors="none", edgecolors="black",
                         label="best within the budget", zorder=2)


def _draw_untrained(axes: Any, records: list[Record]) -> None:
    for record in records:
        why = "no accuracy" if record.epochs else "not trained"
        axes.annotate(f"{record.name}, {why}", (record.p50_ms, 0.0), (0, 8), xycoords=("data", "axes fraction"),
                      textcoords="offset points", rotation=90, fontsize=7, color=QUIET, ha="center", va="bottom")
        axes.plot([record.p50_ms] * 2, [0.0, 0.01], transform=axes.get_xaxis_transform(), color=QUIET)


def _describe(axes: Any, answer: Answer) -> None:
    if answer.budget.latency_ms is not None:
        axes.axvline(answer.budget.latency_ms, color="#c62a2f", linestyle="--", linewidth=1,
                     label=f"budget, {answer.budget.latency_ms:g} ms")
    axes.set_xlabel(f"latency p50, ms\n{answer.machine}")
    axes.set_ylabel(f"{answer.metric} after a short training{', lower is better' if answer.lower_is_better else ''}")
    axes.set_title(f"{answer.recipe}\n{answer.sentence}", loc="left", fontsize=9)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlim(0, 1.25 * max(record.p50_ms for record in answer.shown))  # names stand to the right
    axes.grid(color="#dfe2e6", linewidth=0.6)
    if not any(record.accuracy for record in answer.shown):
        axes.set_ylim(0, 1)
        axes.set_yticks([])
    if answer.lower_is_better:
        axes.invert_yaxis()
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8)
