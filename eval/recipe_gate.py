"""The gate of a run: its final model against the float baseline, on every validation set, and the latency.

The models on the way are judged too, so that one sees where points were lost and won back; they do not bind.

It judges the predictions that the eval stage stored, so both models were shown the same pixels.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgekp.artifact import Artifact
from edgekp.atomic import sha256, write_file
from edgekp.errors import StageError
from edgekp.json_file import read_json
from edgekp.recipe import Recipe
from edgekp.stage import Key, run_stage
from eval.accuracy_gate import judge_accuracy
from eval.evaluate import evaluate_run, predictions_file, run_models, stored_results, validation_sets
from eval.latency import machine
from eval.latency_gate import judge_latency
from eval.ledger import Ledger, judge_ledger, ledger_key, read_ledger
from eval.verdict import Verdict, as_json, as_markdown

VERSION = 3


def gate_run(recipe: Recipe, target: str, force: bool = False) -> list[Verdict]:
    """Verdicts on the run's models, judged anew only if something they rest on has changed.

    They are also in gate.json and gate.md, in ``runs/R/gate``.
    """
    models = run_models(recipe, target)
    ledger = _ledger(recipe, models)
    evaluated = evaluate_run(recipe, target, force)
    inputs = {f"model {name}": sha256(artifact.folder / "manifest.json") for name, artifact in models.items()}
    inputs |= {f"predictions {path.stem}": sha256(path) for path in sorted((evaluated / "predictions").iterdir())}
    if ledger is not None:
        inputs["ledger"] = sha256(ledger.path)
    settings = {"gate": recipe.gate, "eval": recipe.eval, "target": target,
                "machine": machine() if ledger is None else f"that of the ledger, {ledger.signature}"}
    folder = recipe.run_folder / "gate"
    key = Key("gate", VERSION, settings, inputs)
    run_stage(folder, key, lambda scratch: _judge(scratch, recipe, evaluated, models, ledger), force=force)
    return [Verdict(**entry) for entry in read_json(folder / "gate.json")["gates"]]


def _ledger(recipe: Recipe, models: dict[str, Artifact]) -> Ledger | None:
    """What a board recorded, if the recipe names it; checked each time, even where the verdict on it is kept."""
    baseline, *candidates = models.values()
    if not recipe.gate.ledger or not candidates:
        return None
    return read_ledger(Path(recipe.gate.ledger), baseline.folder, candidates[-1].folder, ledger_key())


def _judge(scratch: Path, recipe: Recipe, evaluated: Path, models: dict[str, Artifact], ledger: Ledger | None) -> None:
    baseline, *candidates = models
    if not candidates:
        raise StageError(f"recipe '{recipe.name}' has no [[optimize]] step, so there is no model to judge; add one")
    final = candidates[-1]
    verdicts = []
    for data in validation_sets(recipe.data, recipe.run_folder):
        truth = data.read(recipe)
        results = {name: stored_results(predictions_file(evaluated, name, data.name), truth) for name in models}
        judged = [judge_accuracy(truth, results[baseline], results[name], recipe.eval, recipe.gate,
                                 f"{name} on {data.name}") for name in candidates]
        verdicts += [replace(verdict, binding=name == final) for name, verdict in zip(candidates, judged, strict=True)]
    limit = recipe.gate.latency_ratio
    verdicts.append(judge_latency(models[baseline].folder, models[final].folder, limit, final) if ledger is None
                    else judge_ledger(ledger, limit, final))
    write_file(scratch / "gate.json", json.dumps(as_json(verdicts), indent=1, allow_nan=False) + "\n")
    write_file(scratch / "gate.md", as_markdown(verdicts))
