"""Charts of a report as inline SVG whose colours are the page's own. Knows numbers and labels, no run and no file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Drawn in colours that nothing else has, then named after the page's CSS variables: one chart for light and dark.
INK, FAINT, FIRST, SECOND = "#010203", "#040506", "#070809", "#0a0b0c"
PAGE_COLORS = {INK: "currentColor", FAINT: "var(--line)", FIRST: "var(--first)", SECOND: "var(--second)"}
STYLE: dict[Any, Any] = {  # Any: newer releases of matplotlib type the keys one by one
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 10, "figure.constrained_layout.use": True,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
    "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.major.size": 0, "ytick.major.size": 0,
    "lines.linewidth": 1.6, "lines.markersize": 4}
WIDTH_IN = 4.7  # 338 of CSS's pixels: text keeps its size on a phone


@dataclass(frozen=True)
class Curve:
    """One line of a panel: values at epochs."""

    label: str
    epochs: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Point:
    """One model: how long it takes and how good it is."""

    label: str
    latency_ms: float
    accuracy: float


@dataclass(frozen=True)
class LossInterval:
    """How much a model lost, with its 95 % bounds, all as shares of what it may lose."""

    label: str
    point: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Level:
    """The metric after one step of a waterfall."""

    label: str
    value: float


def training_chart(curves: Sequence[Curve]) -> str:
    """One panel a curve, above each other, over the same epochs."""
    with _figure(0.5 + 1.3 * len(curves), "training") as (figure, drawn):
        panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for panel, curve, color in zip(panels, curves, (FIRST, SECOND), strict=False):
            panel.plot(curve.epochs, curve.values, color=color, marker="o" if len(curve.epochs) <= 30 else "")
            panel.set_title(curve.label, loc="left")
            panel.margins(x=0.03, y=0.12)
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return drawn[0]


def trade_off_chart(points: Sequence[Point], metric: str, lower_is_better: bool) -> str:
    """Accuracy over latency, model by model; better is always up and to the left."""
    with _figure(2.9, metric) as (figure, drawn):
        axes = figure.subplots()
        latencies, values = [point.latency_ms for point in points], [point.accuracy for point in points]
        axes.plot(latencies, values, color=FAINT, linewidth=1, zorder=1)
        axes.scatter(latencies, values, color=[FIRST] * (len(points) - 1) + [SECOND], zorder=2)
        for point in points:
            axes.annotate(point.label, (point.latency_ms, point.accuracy), (6, 4), textcoords="offset points")
        axes.set_xlim(0, 1.3 * max(latencies))
        axes.margins(y=0.2)
        axes.set_xlabel("latency p50, ms")
        axes.set_title(f"{metric}; better is up and left", loc="left")
        if lower_is_better:
            axes.invert_yaxis()
    return drawn[0]


def interval_chart(losses: Sequence[LossInterval]) -> str:
    """A line a model from the lower to the upper bound of its loss; the budget stands at 1."""
    with _figure(0.8 + 0.32 * len(losses), "intervals") as (figure, drawn):
        axes = figure.subplots()
        rows = range(len(losses))
        axes.hlines(rows, [loss.lower for loss in losses], [loss.upper for loss in losses], color=FIRST, linewidth=2)
        axes.plot([loss.point for loss in losses], rows, "o", color=FIRST)
        axes.axvline(1, color=SECOND, linestyle="--", linewidth=1.2)
        axes.axvline(0, color=FAINT, linewidth=1.2)
        _name_rows(axes, [loss.label for loss in losses])
        axes.set_xlabel("loss, share of the budget")
    return drawn[0]


def waterfall_chart(levels: Sequence[Level], metric: str, lower_is_better: bool) -> str:
    """A row a step: a bar from the value before it to the value after it, in another colour where it lost."""
    with _figure(0.8 + 0.32 * len(levels), f"waterfall {metric}") as (figure, drawn):
        axes = figure.subplots()
        axes.plot([levels[0].value], [0], "o", color=FIRST)
        for row, (before, after) in enumerate(pairwise(levels), start=1):
            lost = after.value > before.value if lower_is_better else after.value < before.value
            axes.barh(row, after.value - before.value, left=before.value, height=0.6, color=SECOND if lost else FIRST)
            axes.plot([before.value] * 2, [row - 1, row], color=FAINT, linewidth=1)
            axes.plot([after.value], [row], "|", color=INK, markersize=9)
        _name_rows(axes, [level.label for level in levels])
        axes.margins(x=0.08)
        axes.set_xlabel(metric)
    return drawn[0]


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


@contextmanager
def _figure(height_in: float, salt: str) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on, and a list that holds its SVG once the block ends."""
    drawn: list[str] = []
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(WIDTH_IN, height_in))
        yield figure, drawn
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn.append(_for_page(file.getvalue()))


def _for_page(document: str) -> str:
    """The ``svg`` element alone, without what HTML does not need: namespaces, metadata, names of groups, fixed size."""
    element = document[document.index("<svg"):]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    element = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", element)
    element = re.sub(r'<g id="[^"]*"', "<g", element)
    element = re.sub(r'<svg\b([^>]*?) width="[^"]*"', r"<svg\1", element)
    element = re.sub(r'<svg\b([^>]*?) height="[^"]*"', r"<svg\1", element)
    for drawn_in, shown_in in PAGE_COLORS.items():
        element = element.replace(drawn_in, shown_in)
    return element
