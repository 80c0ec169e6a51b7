"""Quantization that climbs the ladder of repairs until the gate passes, and tells what every rung gave."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor

from edgekp.recipe_steps import Quantize
from edgekp.sample import Instance
from edgekp.stage import say
from eval.verdict import worst
from optimize.ladder import Attempt, Climb, LeftInFloat, Step, climb, left_in_float
from optimize.ptq import Quantized
from optimize.step import Context
from optimize.workshop import JudgedWorkshop, loss_of
from train.history import Entry
from train.models.checkpoint import Checkpoint

TOLD = 5  # layers on the progress lines


@dataclass(frozen=True)
class Repaired:
    """The network that the gate likes best, the settings that made it, and the way to it.

    Attributes:
        history: of the training on the last rung; empty where it was not needed.
    """

    found: Quantized
    settings: Quantize
    report: dict[str, Any]
    history: list[Entry]


def repair(parent: Checkpoint, settings: Quantize, context: Context, calibrated_with: Sequence[Instance],
           inputs: Tensor) -> Repaired:
    """Quantize with the settings of the recipe, then climb from rung to rung until the gate of the run passes.

    Where no rung passes, the best network is returned and that is said; it is the gate of the run that fails then.

    Raises:
        ArtifactError: The network is shown whole scenes, where no keypoint can be followed through its layers.
    """
    with tempfile.TemporaryDirectory() as folder:
        shop = JudgedWorkshop(parent, context, calibrated_with, inputs, Path(folder), settings.target)
        for cost in shop.costs(settings)[:TOLD]:
            say(f"repair: {cost.layer} alone on the grid moves keypoints by {cost.error_px:.3f} px, "
                f"OKS {-cost.oks_drop:+.4f}")
        float_fails = worst(shop.float_verdicts) == "fail"
        way = Climb(shop)
        if float_fails:
            way.take("recipe", "what the recipe asks for", settings)
        else:
            climb(way, settings)
        left = [] if float_fails else left_in_float(way)
        result = _result(way, float_fails)
        say(f"repair: {result}")
        made = shop.made[way.best.name]
        report = {"outcome": way.best.outcome, "result": result,
                  "float_network": {data: loss_of(verdict) for data, verdict
                                    in zip(shop.judge.truths, shop.float_verdicts, strict=True)},
                  "steps": _steps(way, _latencies(shop, way)),
                  "left_in_float": [_bought(one) for one in left],
                  "layers": [cost.to_json() for cost in shop.costs(settings)]}
        return Repaired(made.found, way.best.settings, report, made.history)


def _result(way: Climb, float_fails: bool) -> str:
    """The end of the way in one line."""
    best, rung = way.best, next(step.rung for step in reversed(way.steps) if step.kept)
    tried = sum(step.attempt is not None for step in way.steps)
    if float_fails:
        return (f"{_reasons(way)}. No repair was tried: the float network fails the gate itself, before anything is "
                "rounded; mend the steps before this one, or the budget")
    if best.outcome == "pass":
        return f"the gate passes at rung '{rung}', {tried} of the ladder tried"
    if best.outcome == "fail":
        return (f"THE BUDGET IS NOT MET: all {tried} rungs fail the gate, the best is '{rung}', and it is what goes on "
                f"({_reasons(way)}); the gate of the run will fail. Allow more loss, or use a larger model")
    return (f"no rung passes for certain: the best of {tried} is '{rung}', and it is what goes on, undecided "
            f"({_reasons(way)}); measure on more images, or allow more loss")


def _reasons(way: Climb) -> str:
    return "; ".join(f"{data}: {loss['reason']}" for data, loss in way.best.losses.items() if loss["outcome"] != "pass")


def _latencies(shop: JudgedWorkshop, way: Climb) -> dict[str, float]:
    """In ms, of the attempts whose kernels differ: other rungs change numbers and nothing else."""
    first: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
    for step in way.steps:
        if step.attempt and (step.kept or step.attempt.settings.int16):
            settings = step.attempt.settings
            first.setdefault((settings.keep_float, settings.int16), step.attempt.name)
    return shop.latency_ms(list(first.values())) if len(first) > 1 else {}


def _steps(way: Climb, latency_ms: dict[str, float]) -> list[dict[str, Any]]:
    return [{"rung": step.rung, "why": step.why, "kept": step.kept, "note": step.note,
             **(_attempt(step, step.attempt, latency_ms) if step.attempt else {})} for step in way.steps]


def _attempt(step: Step, attempt: Attempt, latency_ms: dict[str, float]) -> dict[str, Any]:
    entry = {"outcome": attempt.outcome, "budget_used": attempt.used if isfinite(attempt.used) else None,
             "losses": attempt.losses, "size_bytes": attempt.size_bytes,
             "float_layers": list(attempt.settings.keep_float), "int16": list(attempt.settings.int16)}
    if attempt.name in latency_ms:
        entry["latency_ratio"] = latency_ms[attempt.name] / latency_ms["float"]
    return entry


def _bought(one: LeftInFloat) -> dict[str, Any]:
    """What the network would lose with this layer on the grid, too."""
    return {"layer": one.layer, "outcome": one.attempt.outcome, "outcome_without": one.without.outcome,
            "bytes": one.attempt.size_bytes - one.without.size_bytes,
            "losses": {data: {"with": one.attempt.losses[data].get("loss"), "without": loss.get("loss")}
                       for data, loss in one.without.losses.items()}}
