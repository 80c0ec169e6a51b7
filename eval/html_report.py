"""The report of a run: one HTML file that needs no other, with a table, charts, gates, pictures and origin.

It measures nothing: all numbers are those that the stages left in the run's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.charts import (
    Curve,
    Level,
    LossInterval,
    Point,
    interval_chart,
    trade_off_chart,
    training_chart,
    waterfall_chart,
)
from eval.comparison import LOWER_IS_BETTER, compared, headline, headline_change
from eval.pictures import BASELINE, FINAL, TRUTH, Picture, Regression, make_pictures, make_regressions
from eval.repair_section import repairs
from eval.run_files import RunFiles, eval_command, read_run, settings_of
from eval.verdict import write_output

TEMPLATE = "report_template.html"
VALIDATION = {"nme": ("val_error", "validation: mean error, share of √area"),
              "pck": ("val_pck@0.2", "validation: PCK@0.2"), "oks_ap": ("val_pck@0.2", "validation: PCK@0.2")}
NOT_JUDGED = "not judged"
LAYERS_SHOWN = 12
PARTS_SHOWN = 12
PICTURES_A_REGRESSION = 3  # of those that the recipe asks for; each regression is a pair of its own


def write_report(run: Path, out: Path) -> None:
    """Write the report of ``runs/R``.

    Raises:
        StageError: The run has not been evaluated, or its labels have changed since.
        DataError: Labels or images are no longer there.
    """
    write_output(out, render(read_run(run)))


def render(files: RunFiles) -> str:
    """The whole page."""
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(TEMPLATE).render(
        name=files.folder.resolve().name, target=files.target, machine=files.records[0]["machine"],
        verdict=_verdict(files), summary=[headline_change(files.records_on(data), files.choice)
                                          for data in files.data_names],
        models=files.models, groups=compared(files.records), trade_offs=_trade_offs(files), trainings=_trainings(files),
        gates=files.gates["gates"] if files.gates else [], intervals=_intervals(files), steps=_steps(files),
        parts=_parts(files), waterfall=_waterfall(files), repairs=repairs(files.reports),
        layers=files.waterfall["layers"][:LAYERS_SHOWN] if files.waterfall else [],
        pictures=_pictures(files), regressions=_regressions(files),
        colors={"truth": TRUTH, "baseline": BASELINE, "final": FINAL}, keys=_keys(files))


def _verdict(files: RunFiles) -> dict[str, Any]:
    """The outcome in one word, and a line for each gate that is behind it."""
    if files.gates is None:
        return {"outcome": NOT_JUDGED, "reasons": [f"The gate has not run. Run: {eval_command(files.folder)}"]}
    outcome, gates = files.gates["verdict"], [gate for gate in files.gates["gates"] if gate["binding"]]
    if outcome == "pass":
        return {"outcome": outcome, "reasons": [f"All {len(gates)} gates of the final model passed."]}
    return {"outcome": outcome, "reasons": [f"{gate['subject']}, {gate['gate']}: {gate['reason']}"
                                            for gate in gates if gate["outcome"] == outcome]}


def _trade_offs(files: RunFiles) -> dict[str, Markup]:
    """A chart for each validation set."""
    name = headline(files.choice)
    lower_is_better = name.startswith(LOWER_IS_BETTER)
    label, scale = (f"{name}, %", 100) if lower_is_better else (name, 1)
    charts = {}
    for data in files.data_names:
        points = [Point(record["model"], record["latency_ms"]["p50"], scale * record["metrics"][name])
                  for record in files.records_on(data) if name in record["metrics"]]
        if points:
            charts[data] = Markup(trade_off_chart(points, label, lower_is_better))
    return charts


def _trainings(files: RunFiles) -> dict[str, Markup]:
    """A chart for each model that was trained: loss, and what was validated on the way."""
    key, label = VALIDATION[files.choice.metric]
    charts = {}
    for model, history in files.histories.items():
        validated = [entry for entry in history if key in entry]
        curves = [Curve("loss", [entry["epoch"] for entry in history], [entry["loss"] for entry in history])]
        if validated:
            curves.append(Curve(label, [entry["epoch"] for entry in validated], [entry[key] for entry in validated]))
        charts[model] = Markup(training_chart(curves))
    return charts


def _intervals(files: RunFiles) -> Markup | None:
    """The accuracy gates' losses, each as a share of its own budget; None where none could be compared."""
    judged = [gate for gate in (files.gates["gates"] if files.gates else []) if "budget" in gate["numbers"]]
    losses = [LossInterval(gate["subject"].partition(" on ")[0] if len(files.data_names) == 1 else gate["subject"],
                           *(gate["numbers"][name] / gate["numbers"]["budget"]
                             for name in ("loss", "loss_lower_95", "loss_upper_95"))) for gate in judged]
    return Markup(interval_chart(losses)) if losses else None


def _waterfall(files: RunFiles) -> Markup | None:
    """The metric after each step from the first model to the last."""
    told = files.waterfall
    if told is None:
        return None
    scale, unit = (100, ", %") if told["relative"] else (1, "")
    levels = [Level("baseline", scale * told["baseline"]),
              *(Level(fall["step"], scale * fall["value"]) for fall in told["falls"])]
    return Markup(waterfall_chart(levels, f"{told['metric']}{unit} on {told['data']}", told["relative"]))


def _parts(files: RunFiles) -> list[dict[str, str]]:
    """Parts of the data that lost most in the final model, each with the chance of seeing that without a loss."""
    gates = [gate for gate in (files.gates["gates"] if files.gates else []) if gate["binding"]]
    found = [(gate["subject"], part) for gate in gates for part in gate["numbers"].get("slices", [])]
    return [{"of": subject, "part": part["name"], "measured": part["measured"],
             "change": f"{part['baseline']:.4f} → {part['candidate']:.4f}", "loss": f"{part['loss']:+.4f}",
             "bounds": f"{part['loss_lower_95']:+.4f} to {part['loss_upper_95']:+.4f}", "p": f"{part['p_loss']:.3f}"}
            for subject, part in sorted(found, key=lambda entry: entry[1]["p_loss"])[:PARTS_SHOWN]]


def _steps(files: RunFiles) -> dict[str, list[tuple[str, str]]]:
    """What each step of optimization says of itself; tables of numbers, such as thresholds, stay in its report."""
    return {model: [(name.replace("_", " "), _fact(value)) for name, value in report.items()
                    if not isinstance(value, dict)] for model, report in files.reports.items()}


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _pictures(files: RunFiles) -> dict[str, list[Picture]]:
    """Instances of each validation set, as many in all as the recipe asks for."""
    if not files.choice.pictures:
        return {}
    shown = list(dict.fromkeys([files.models[0], files.models[-1]]))
    share, more = divmod(files.choice.pictures, len(files.data_names))
    pictures = {}
    for number, (data, truth) in enumerate(files.truths().items()):
        scored = {model: files.scored(model, data, truth) for model in shown}
        pictures[data] = make_pictures(scored, files.choice.metric, share + (number < more))
    return pictures


def _regressions(files: RunFiles) -> dict[str, list[Regression]]:
    """Instances that the last model got wrong and the first one less so, for each validation set."""
    count = files.choice.pictures // PICTURES_A_REGRESSION // len(files.data_names)
    if not count or len(files.models) < 2:
        return {}
    shown = (files.models[0], files.models[-1])
    found = {data: make_regressions({model: files.scored(model, data, truth) for model in shown},
                                    files.choice.metric, count) for data, truth in files.truths().items()}
    return {data: pairs for data, pairs in found.items() if pairs}


def _keys(files: RunFiles) -> dict[str, list[tuple[str, str]]]:
    """Settings and inputs of every stage, as the stage recorded them."""
    return {stage: [(name, json.dumps(value, ensure_ascii=False)) for name, value in settings_of(key)]
            + [(f"input {name}", f"sha256 {digest[:16]}") for name, digest in key["inputs"].items()]
            for stage, key in files.keys.items()}
