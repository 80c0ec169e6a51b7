"""Tables for people: metrics of one model, and the models of a run beside each other. Knows no file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

SHOWN = ("AP", "AP50", "mean_oks", "nme", "failure_rate@0.08", "auc@0.08", "pck@0.1", "pck@0.2")
MISSING = "-"


def metrics_table(metrics: dict[str, float]) -> str:
    """One number a line."""
    return aligned([[name, f"{value:.6f}"] for name, value in metrics.items()])


def run_table(records: Sequence[dict[str, Any]]) -> str:
    """For each validation set: model by model, accuracy, size, parameters, MACs, latency and speed-up."""
    blocks = []
    for data, entries in groupby(records, key=lambda record: str(record["data"])):
        rows = list(entries)
        shown = [name for name in SHOWN if any(name in record["metrics"] for record in rows)]
        head = ["model", *shown, "size", "parameters", "MACs", "p50", "speed-up"]
        lines = aligned([head, *(_row(record, shown, rows[0]["latency_ms"]["p50"]) for record in rows)])
        blocks.append(f"{data} ({rows[0]['instances']} instances)\n{lines}")
    return "\n\n".join(blocks)


def _row(record: dict[str, Any], shown: list[str], baseline_ms: float) -> list[str]:
    metrics, p50_ms = record["metrics"], record["latency_ms"]["p50"]
    return [record["model"], *(f"{metrics[name]:.4f}" if name in metrics else MISSING for name in shown),
            f"{record['size_bytes'] / 1e6:.2f} MB", _millions(record["parameters"]),
            _millions(record["macs"]), f"{p50_ms:.2f} ms", f"{baseline_ms / p50_ms:.2f}x"]


def _millions(count: int | None) -> str:
    return MISSING if count is None else f"{count / 1e6:.2f} M"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: names to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("   ".join([row[0].ljust(widths[0]),
                                 *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
                     for row in rows)
