"""``python -m eval waterfall``: where the points went, step by step and layer by layer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.artifact import Artifact, boxed_contract, open_artifact
from edgekp.atomic import sha256, write_file
from edgekp.cli import recipe_of, stage_parser
from edgekp.errors import DataError, EdgekpError
from edgekp.json_file import read_json
from edgekp.manifest import MANIFEST
from edgekp.recipe import Recipe
from edgekp.run_lock import locked
from edgekp.sample import Float
from edgekp.stage import Key, require_stage, run_stage, say
from eval.evaluate import run_models, validation_sets
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.layer_errors import is_quantized, layer_errors
from eval.metrics import METRICS, Metric, metric_chosen, metric_named, metrics_for
from eval.predict import prepared_batches
from eval.table import MISSING, aligned
from eval.verdict import write_json
from eval.waterfall import measure_waterfall

VERSION = 1

LAYER_CROPS = 32  # moved keypoints average quickly; each of a hundred parts costs a pass over these
LAYERS_SHOWN = 10


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "waterfall", help="where the points went between baseline and candidate", description=__doc__,
        parents=[stage_parser("waterfall", "")], conflict_handler="resolve")
    parser.add_argument("--target", default="cpu", help="whose exported models are meant (default: %(default)s)")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="artifact or checkpoint; default: a recipe's run")
    parser.add_argument("--candidate", type=Path, metavar="DIR", help="artifact to explain")
    parser.add_argument("--data", type=Path, metavar="COCO.json", help="the annotations to measure on")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: that of --data)")
    parser.add_argument("--metric", choices=list(METRICS), help="default: nme for faces, oks_ap for others")
    parser.add_argument("--layers", action=argparse.BooleanOptionalAction, default=True,
                        help="also put each layer of an INT8 candidate on its grid alone (default: yes)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.set_defaults(command=explain)


def explain(arguments: argparse.Namespace) -> int:
    """Each step from the float network to the candidate with what it cost, and the layers that cost most."""
    if arguments.baseline is None and arguments.candidate is None:
        if arguments.data is not None or arguments.images is not None:
            raise EdgekpError("--data and --images belong to --baseline and --candidate; a recipe names its own")
        recipe = recipe_of(arguments)
        with locked(recipe.run_folder):
            told = explain_run(recipe, arguments.target, arguments.force)
    else:
        told = _explain_pair(arguments)
    print(_table(told))
    if told["layers"]:
        print(_layer_table(told["layers"]))
    if arguments.json:
        write_json(arguments.json, told)
    return 0


def explain_run(recipe: Recipe, target: str, force: bool = False) -> dict[str, Any]:
    """The waterfall of a run's models on its first validation set, measured anew only if one of these has changed."""
    checkpoint = open_artifact(require_stage(recipe.run_folder / "train", "make train"), "checkpoint")
    models = [checkpoint, *run_models(recipe, target).values()]
    data = validation_sets(recipe.data, recipe.run_folder)[0]
    inputs = {f"model {model.folder.name}": sha256(model.folder / MANIFEST) for model in models}
    inputs |= data.input_digests()
    key = Key("waterfall", VERSION, {"metric": recipe.eval, "target": target}, inputs)
    folder = recipe.run_folder / "waterfall"

    def work(scratch: Path) -> None:
        told = tell(models, data.read(recipe), metric_chosen(recipe.eval), layers=True)
        write_file(scratch / "waterfall.json", json.dumps({"data": data.name, **told}, indent=1) + "\n")

    run_stage(folder, key, work, force=force)
    return dict(read_json(folder / "waterfall.json"))


def _explain_pair(arguments: argparse.Namespace) -> dict[str, Any]:
    if None in (arguments.baseline, arguments.candidate, arguments.data):
        raise DataError("--baseline, --candidate and --data are needed together; name all, or none for a recipe's run")
    baseline, candidate = open_artifact(arguments.baseline), open_artifact(arguments.candidate)
    truth = read_ground_truth(arguments.data, baseline.contract.skeleton, arguments.images)
    metric = arguments.metric or metrics_for(baseline.contract.skeleton)[0]
    return tell([baseline, candidate], truth, metric_named(metric), layers=arguments.layers)


def tell(models: Sequence[Artifact], truth: GroundTruth, metric: Metric, *, layers: bool) -> dict[str, Any]:
    """All numbers of the models from baseline to candidate, in plain JSON."""
    baseline, *between, candidate = models
    found = measure_waterfall(baseline, candidate, truth, metric, between)
    errors = layer_errors(candidate, _crops(candidate, truth), _float_twin(models)) \
        if layers and is_quantized(candidate) else []
    return {"metric": found.metric, "relative": metric.relative, "baseline": found.baseline,
            "falls": [{"step": fall.name, "change": fall.change, "value": fall.value, "loss": fall.loss.point,
                       "loss_lower_95": fall.loss.lower, "loss_upper_95": fall.loss.upper} for fall in found.falls],
            "cause": found.cause.name if found.cause else None,
            "layers": [{**asdict(error), "sqnr_db": error.sqnr_db if isfinite(error.sqnr_db) else None}
                       for error in errors]}


def _float_twin(models: Sequence[Artifact]) -> Artifact | None:
    """The exported float model in front of the candidate: the one that was quantized."""
    twin = models[-2]
    if twin.kind == "onnx":
        return twin
    say("waterfall: the baseline is no ONNX model, so that the rounding of weights cannot be told layer by layer")
    return None


def _crops(artifact: Artifact, truth: GroundTruth) -> Float:
    batches = (inputs for _, inputs, _ in prepared_batches(boxed_contract(artifact, "the waterfall"), truth))
    return np.concatenate(list(islice(batches, LAYER_CROPS // 16)))


def _table(told: dict[str, Any]) -> str:
    """One step a row: the metric after it, what it lost with bounds, and what was swapped."""
    def loss(value: float) -> str:
        return f"{100 * value:+.2f} %" if told["relative"] else f"{value:+.4f}"

    rows = [["step", told["metric"], "lost", "95 %", "what"], ["baseline", f"{told['baseline']:.4f}", "", "", ""]]
    rows += [[fall["step"], f"{fall['value']:.4f}", loss(fall["loss"]),
              f"{loss(fall['loss_lower_95'])} to {loss(fall['loss_upper_95'])}", fall["change"]]
             for fall in told["falls"]]
    changes = {fall["step"]: fall["change"] for fall in told["falls"]}
    cause = (f"most was lost at: {told['cause']} ({changes[told['cause']]})" if told["cause"]
             else "no step loses more than the choice of the images explains")
    return f"{aligned(rows)}\n{cause}"


def _layer_table(layers: Sequence[dict[str, Any]]) -> str:
    shown = layers[:LAYERS_SHOWN]
    rows = [["layer", "part", "keypoints move", "SQNR"]]
    rows += [[error["layer"], error["part"], f"{error['error_px']:.3f} px",
              MISSING if error["sqnr_db"] is None else f"{error['sqnr_db']:.1f} dB"] for error in shown]
    return f"\neach part alone on its grid, the worst {len(shown)} of {len(layers)}\n{aligned(rows)}"
