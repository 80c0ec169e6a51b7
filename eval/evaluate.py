"""The recipe's eval stage: every model of a run on every validation set, and their latency measured in turn.

Result folder, ``runs/R/eval``:

    metrics.json                        one record a model and validation set, the float baseline's first
    predictions/MODEL__DATA.json        COCO results with annotation_id and bbox, one file a record
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekp.artifact import Artifact, require_same_contract, verify_artifact
from edgekp.atomic import sha256, write_file
from edgekp.data_digest import data_digest
from edgekp.data_folder import locate
from edgekp.errors import StageError
from edgekp.json_file import read_json
from edgekp.manifest import MANIFEST
from edgekp.recipe import Data, Recipe
from edgekp.sample import Float
from edgekp.skeleton_file import skeleton_digest
from edgekp.skeletons import skeleton_named
from edgekp.stage import Key, require_stage, run_stage, say
from edgekp.stage_results import listed_models, stage_entry
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.latency import machine, percentiles_ms, time_in_fresh_process
from eval.metrics import interval_of, measurable, measure, measure_keypoints, metrics_for
from eval.predict import predict
from eval.results import Result, lay_beside, read_results

VERSION = 2
LATENCY_SEED = 0


@dataclass(frozen=True)
class ValidationSet:
    """Labels to measure on. ``name`` is short and stands in records; ``images`` is None beside the labels."""

    name: str
    labels: Path
    images: Path | None = None

    def read(self, recipe: Recipe) -> GroundTruth:
        return read_ground_truth(self.labels, skeleton_named(recipe.data.skeleton), self.images)

    def input_digests(self) -> dict[str, str]:
        """Digests of the labels and of all images, for a stage's key."""
        found = data_digest(self.labels, self.images)
        return {f"data {self.name}": found.labels, f"images {self.name}": found.images}


def evaluate_run(recipe: Recipe, target: str, force: bool = False) -> Path:
    """Measure the run's models for a target, unless that is up to date; the result folder."""
    models, sets = run_models(recipe, target), validation_sets(recipe.data, recipe.run_folder)
    truths = {data.name: data.read(recipe) for data in sets}
    inputs = {f"model {name}": sha256(artifact.folder / "manifest.json") for name, artifact in models.items()}
    for data in sets:
        truths[data.name].require_images()
        inputs |= data.input_digests()
    inputs |= skeleton_digest(recipe.data.skeleton)
    settings = {"eval": recipe.eval, "data": recipe.data, "target": target, "machine": machine()}
    folder = recipe.run_folder / "eval"
    key = Key("eval", VERSION, settings, inputs)
    run_stage(folder, key, lambda scratch: _measure(scratch, recipe, models, truths), force=force)
    return folder


def run_models(recipe: Recipe, target: str) -> dict[str, Artifact]:
    """The exported models of a run by name, in the order of their making; the float baseline is the first.

    Raises:
        StageError: They are not there, or a checkpoint is no longer the one that was exported.
    """
    command = f"make export TARGET={target}"
    folder = require_stage(recipe.run_folder / "export" / target, command)
    names = listed_models(folder, command)
    _require_same_checkpoints(recipe.run_folder, names, folder, command)
    models = {name: verify_artifact(folder / name) for name in names}
    baseline = next(iter(models.values()))
    for artifact in models.values():
        require_same_contract(baseline, artifact)
    return models


def _require_same_checkpoints(run: Path, names: list[str], exported: Path, command: str) -> None:
    """Refuse artifacts of checkpoints that were replaced since; a machine that only measures has no checkpoints."""
    inputs = stage_entry(exported, command)["inputs"]
    for name, folder in zip(names, [run / "train", *(run / "optimize" / name for name in names[1:])], strict=True):
        if (folder / MANIFEST).is_file() and sha256(folder / MANIFEST) != inputs.get(name):
            raise StageError(f"{exported / name}: exported from another checkpoint than that in {folder}; "
                             f"run: {command}")


def validation_sets(data: Data, run: Path) -> list[ValidationSet]:
    """The drawn validation set of the run's folder, or those that the recipe names in the data folder."""
    if data.drawn is not None:
        return [ValidationSet("drawn", require_stage(run / "data", "make train") / "val.json")]
    return [ValidationSet(entry.labels.removesuffix(".json"), locate(entry.labels, data.hint),
                          locate(entry.images, data.hint) if entry.images else None) for entry in data.val]


def predictions_file(folder: Path, model: str, data: str) -> Path:
    return folder / "predictions" / f"{model}__{data.replace('/', '_')}.json"


def stored_results(path: Path, truth: GroundTruth) -> list[Result]:
    """What an earlier evaluation predicted; empty where no output was finite."""
    return read_results(path, truth) if read_json(path) else []


def metrics_of(recipe: Recipe) -> tuple[str, ...]:
    """Metrics of the run's skeleton, with the recipe's own in front."""
    fitting = metrics_for(skeleton_named(recipe.data.skeleton))
    return (recipe.eval.metric, *(name for name in fitting if name != recipe.eval.metric))


def _measure(scratch: Path, recipe: Recipe, models: dict[str, Artifact], truths: dict[str, GroundTruth]) -> None:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for data, truth in truths.items():
        for name, results in zip(models, predict(list(models.values()), truth), strict=True):
            path = predictions_file(scratch, name, data)
            write_file(path, json.dumps(results, allow_nan=False) + "\n")
            found[name, data] = {"instances": len(truth.labels.instances), "predicted": len(results),
                                 **_accuracy(truth, results, recipe)}
    say(f"eval: latency of {', '.join(models)}, in turn")
    times = time_in_fresh_process([artifact.folder for artifact in models.values()], LATENCY_SEED)
    wall_ms = dict(zip(models, times.wall_ms, strict=True))
    records = [{"model": name, "data": data, **found[name, data], **_describe(models[name], wall_ms[name])}
               for data in truths for name in models]
    write_file(scratch / "metrics.json", json.dumps(records, indent=1, allow_nan=False) + "\n")


def _accuracy(truth: GroundTruth, results: list[Result], recipe: Recipe) -> dict[str, Any]:
    """All numbers; without NME where instances lack a prediction, and none where all do."""
    if not results:
        return {"metrics": {}, "interval": None, "keypoints": {}}
    scored = lay_beside(truth, results)
    names = measurable(scored, metrics_of(recipe))
    return {"metrics": measure(scored, names, recipe.eval), "interval": interval_of(scored, names[0], recipe.eval),
            "keypoints": measure_keypoints(scored)}


def _describe(artifact: Artifact, wall_ms: Float) -> dict[str, Any]:
    """What a record says of the model itself."""
    return {"size_bytes": artifact.size_bytes, "precision": artifact.model.get("precision"),
            "parameters": artifact.model.get("parameters"), "macs": artifact.model.get("macs"),
            "latency_ms": percentiles_ms(wall_ms), "machine": machine()}
