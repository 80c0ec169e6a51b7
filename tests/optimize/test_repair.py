"""Repair in earnest: a real network with one broken layer, exported, run and judged by the gate on every rung."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import optimize.workshop
from edgekp.coco import read_coco
from edgekp.preprocess import read_image
from edgekp.recipe import Gate, Recipe
from edgekp.recipe_steps import Quantize
from edgekp.skeletons import COCO17
from optimize.ptq import Quantized, quantize_network
from optimize.quantize import quantize
from optimize.step import Context, Result
from tests import tiny
from tests.optimize.test_sensitivity import LOUD, make_loud
from train.dataset import Pool
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.models.quantized import INT8_MAX, fake_quantizers

SETTINGS = Quantize("quantize", images=128, keep_float=(), repair=True)
BUDGET = 0.65  # an untrained network is fragile: healthy it loses 0.3 to 0.5 of its AP, broken 0.9
RECIPE = replace(tiny.recipe(), gate=Gate(budget=BUDGET, resamples=200))
Change = Callable[[nn.Module], None]
pytestmark = pytest.mark.slow  # every rung is a calibration, an export and a verdict


def unchanged(net: nn.Module) -> None:
    """The network as it is."""


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Quantizes the tiny network after a change, on labels that its float version predicts without any error."""
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    monkeypatch.setattr("optimize.workshop.JudgedWorkshop.latency_ms", lambda self, names: dict.fromkeys(
        ("float", *names), 1.0))

    def run(change: Change = unchanged, recipe: Recipe = RECIPE, settings: Quantize = SETTINGS) -> Result:
        torch.manual_seed(0)
        net, spec, contract = tiny.network(recipe)
        change(net)
        (tmp_path / "float").mkdir()
        save_checkpoint(tmp_path / "float", net, spec, contract)
        train = read_coco(tiny.write_coco(tmp_path, "train", 160, per_image=4), COCO17)
        truth = tiny.write_coco(tmp_path, "val", 24, per_image=1, seed=1)
        label_as_predicted(truth, load_checkpoint(tmp_path / "float"))
        context = Context(recipe, [Pool(train.instances)], [Pool(read_coco(truth, COCO17).instances)],
                          tmp_path / "float", torch.device("cpu"))
        return quantize(load_checkpoint(tmp_path / "float"), settings, context)
    return run


@torch.no_grad()
def label_as_predicted(path: Path, checkpoint: Checkpoint) -> None:
    """Write what the network says into a label file."""
    labels, content = read_coco(path, COCO17), json.loads(path.read_text())
    for instance, annotation in zip(labels.instances, content["annotations"], strict=True):
        prepared, to_image = checkpoint.contract.prepare(read_image(instance.image.path), instance.bbox_xywh)
        outputs = {"heatmaps": checkpoint.net(torch.from_numpy(prepared[None]))[0].numpy()}
        (prediction,) = checkpoint.contract.interpret(outputs, to_image[None])
        annotation["keypoints"] = np.column_stack([prediction.keypoints_xy, np.full(17, 2)]).ravel().tolist()
    path.write_text(json.dumps(content))


def steps_of(result: Result) -> dict[str, dict[str, Any]]:
    return {step["rung"]: step for step in result.report["repair"]["steps"]}


def break_scale(monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    """Whatever the settings, the activation of this layer is rounded far too coarsely."""
    def broken(parent: Checkpoint, settings: Quantize, inputs: torch.Tensor) -> Quantized:
        found = quantize_network(parent, settings, inputs)
        for quantizer in fake_quantizers(found.net).values():
            if quantizer.layer == layer:
                quantizer.scale *= 40 * quantizer.largest_level / INT8_MAX  # as coarse with 16 bits
        return found
    monkeypatch.setattr(optimize.workshop, "quantize_network", broken)


def test_a_healthy_network_passes_with_the_settings_of_the_recipe(attempt: Callable[..., Result]) -> None:
    result = attempt(settings=replace(SETTINGS, keep_float=("head.output",)))
    told = result.report["repair"]
    assert list(steps_of(result)) == ["recipe"]
    assert told["outcome"] == "pass"
    assert "the gate passes at rung 'recipe'" in told["result"]
    (head,) = told["left_in_float"]
    assert head["layer"] == "head.output"
    (loss,) = head["losses"].values()
    assert loss["with"] != loss["without"]
    assert head["bytes"] != 0  # at this size the quantizers around a layer are larger than its weights
    json.dumps(result.report, allow_nan=False)


def test_a_loud_channel_is_found_and_equalisation_repairs_it(attempt: Callable[..., Result]) -> None:
    result = attempt(make_loud)
    told, steps = result.report["repair"], steps_of(result)
    assert told["layers"][0]["layer"] == LOUD
    assert list(steps)[-1] == "equalisation"
    assert steps["equalisation"]["outcome"] == "pass"
    assert all(steps[rung]["outcome"] != "pass" for rung in list(steps)[:-1] if "outcome" in steps[rung])
    assert "the gate passes at rung 'equalisation'" in told["result"]
    assert told["left_in_float"] == []
    assert result.report["equalized"]


def test_a_wrong_scale_is_found_and_only_that_layer_is_left_in_float(
        attempt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    break_scale(monkeypatch, "backbone.stem.1.0")
    monkeypatch.setattr("optimize.ladder.RUNGS", ())
    result = attempt()
    told, steps = result.report["repair"], steps_of(result)
    assert told["layers"][0]["layer"] == "backbone.stem.1.0"
    assert list(steps)[-1] == "1 float layer(s)"
    assert steps["1 float layer(s)"]["latency_ratio"] == 1.0
    assert told["outcome"] == "pass"
    (one,) = told["left_in_float"]
    (loss,) = one["losses"].values()
    assert one["layer"] == "backbone.stem.1.0"
    assert loss["with"] < BUDGET < loss["without"]
    assert result.report["float_layers"] == ["backbone.stem.1.0"]


def test_a_budget_that_nothing_meets_publishes_the_best_and_says_so(
        attempt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    break_scale(monkeypatch, "image")  # no convolution, so nothing can leave it in float
    monkeypatch.setattr("optimize.ladder.RUNGS", ())
    monkeypatch.setattr("optimize.ladder.MOST_FLOAT", 1)
    monkeypatch.setattr("optimize.workshop.qat", lambda parent, settings, context: Result(
        parent.net, parent.spec, {}, [{"epoch": 1.0, "loss": 0.5}]))
    result = attempt(recipe=replace(RECIPE, gate=replace(RECIPE.gate, budget=0.001)))
    told = result.report["repair"]
    assert told["outcome"] == "fail"
    assert "THE BUDGET IS NOT MET" in told["result"]
    assert told["result"] in capsys.readouterr().err
    tried = [step["budget_used"] for step in told["steps"] if "budget_used" in step]
    assert len(tried) == 4  # recipe, 16 bits, a float layer, training
    assert [step["budget_used"] for step in told["steps"] if step["kept"]][-1] == min(tried)


def test_a_float_network_that_fails_itself_is_quantized_without_a_climb(
        attempt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """The network that is to be quantized has lost what the baseline knew, as after a pruning that went too far."""
    judged = optimize.workshop.JudgedWorkshop._parent_says

    def wrong(shop: optimize.workshop.JudgedWorkshop) -> Any:
        return {name: [{**result, "keypoints": [300.0] * 51} for result in results]
                for name, results in judged(shop).items()}
    monkeypatch.setattr(optimize.workshop.JudgedWorkshop, "_parent_says", wrong)
    result = attempt()
    told = result.report["repair"]
    assert list(steps_of(result)) == ["recipe"]
    assert "No repair was tried: the float network fails the gate itself" in told["result"]
    assert told["float_network"]["val"]["outcome"] == "fail"
