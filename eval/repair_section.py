"""What a quantize step says of its repair, as the cells of the report's tables. Knows no HTML and no network."""

from __future__ import annotations

from typing import Any

LAYERS_SHOWN = 12
KILOBYTE = 1e3

Cells = dict[str, str]


def repairs(reports: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The result, the rungs, the layers in float and the worst layers of each model that was repaired."""
    return {model: {"result": told["result"], "rungs": [_rung(step) for step in told["steps"]],
                    "left": [cells for one in told["left_in_float"] for cells in _left(one)],
                    "layers": [_layer(cost) for cost in told["layers"][:LAYERS_SHOWN]]}
            for model, report in reports.items() if (told := report.get("repair"))}


def _rung(step: dict[str, Any]) -> Cells:
    name, why = step["rung"], step["why"]
    if "outcome" not in step:
        return {"name": name, "why": why, "found": f"skipped: {step['note']}", "size": "", "latency": "", "kept": ""}
    found = "; ".join(f"{data}: {loss['outcome']}, {loss['reason']}" for data, loss in step["losses"].items())
    latency = f"{step['latency_ratio']:.2f} of float" if "latency_ratio" in step else ""
    return {"name": name, "why": why, "found": found, "size": f"{step['size_bytes'] / KILOBYTE:,.0f} kB",
            "latency": latency, "kept": "kept" if step["kept"] else "no"}


def _left(one: dict[str, Any]) -> list[Cells]:
    return [{"layer": one["layer"], "data": data, "with": _number(loss["with"]), "without": _number(loss["without"]),
             "price": f"{one['bytes'] / KILOBYTE:+,.1f} kB"} for data, loss in one["losses"].items()]


def _layer(cost: dict[str, Any]) -> Cells:
    return {"layer": cost["layer"], "error": _px(cost["error_px"]), "oks": f"{-cost['oks_drop']:+.4f}",
            "sqnr": "-" if cost["sqnr_db"] is None else f"{cost['sqnr_db']:.1f} dB",
            "weights": _px(cost["weights_px"]), "activation": _px(cost["activations_px"])}


def _px(value: float | None) -> str:
    return "" if value is None else f"{value:.3f} px"


def _number(value: float | None) -> str:
    return "not comparable" if value is None else f"{value:+.4f}"
