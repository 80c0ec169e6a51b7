"""Every codec goes the whole way: trained, pruned, taught by the float baseline, put on the int8 grid, exported."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact
from edgekp.recipe import CodecChoice, Model
from edgekp.recipe_steps import Distill, Prune, Quantize
from edgekp.sample import Instance
from optimize.distill import distill
from optimize.prune import prune
from optimize.quantize import quantize
from optimize.step import Context, Result
from tests import tiny
from train.dataset import Pool
from train.loop import fit
from train.losses import LOSSES
from train.models import build, spec_of
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.task import Task, Teacher

CPU = torch.device("cpu")
HRNET = Model("hrnet_lite", options={"width": 16, "branches": 3, "blocks": 1, "modules": 1})
CASES: dict[str, tuple[Model, str, dict[str, Any]]] = {
    "offset": (HRNET, "offset", {}),
    "udp_combined": (HRNET, "udp_combined", {"radius_factor": 0.15}),
    "integral": (HRNET, "integral", {}),
    "simcc": (HRNET, "simcc", {}),
    "simcc of standard smoothing": (HRNET, "simcc", {"smoothing": "standard"}),
    "simcc behind mobilefacenet": (tiny.FACENET, "simcc", {}),
}


def recipe_of(model: Model, codec: str, options: dict[str, Any]) -> tiny.Recipe:
    """Trained on the first loss that fits."""
    recipe = replace(tiny.recipe(model=model), codec=CodecChoice(codec, options))
    loss = next(name for name, loss in LOSSES.items() if loss.fits(recipe.build_codec()))
    return replace(recipe, train=replace(recipe.train, loss=loss, lr=1e-2), augment=tiny.STILL)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    return tiny.instances(tmp_path_factory.mktemp("people"), 128)


def trained(recipe: tiny.Recipe, people: tuple[Instance, ...], folder: Path) -> Checkpoint:
    """After three epochs over 32 of the people; far from good, but no longer near zero."""
    spec = spec_of(recipe)
    task = Task("train", recipe.contract(), [Pool(people[:32])], [], recipe.train, recipe.augment)
    net, history = fit(build(spec), task, CPU)
    assert history[-1]["loss"] < history[0]["loss"]
    return saved(Result(net, spec, {}, []), recipe, folder)


def saved(result: Result, recipe: tiny.Recipe, folder: Path) -> Checkpoint:
    folder.mkdir()
    save_checkpoint(folder, result.net, result.spec, recipe.contract())
    return load_checkpoint(folder)


@pytest.mark.parametrize("name", CASES)
def test_who_is_its_own_teacher_has_nothing_to_learn(name: str, people: tuple[Instance, ...]) -> None:
    """In any codec, what a teacher says becomes a target with the teacher's own outputs as the best answer."""
    recipe = recipe_of(*CASES[name])
    net = build(spec_of(recipe)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = Teacher(copy.deepcopy(net), weight=1.0)
    settings = replace(recipe.train, epochs=1, lr=1e-12)
    fit(net, Task("test", recipe.contract(), [Pool(people[:8])], [], settings, recipe.augment, teacher), CPU)
    gradients = [parameter.grad for parameter in net.parameters()]  # of the only step
    assert max(float(gradient.abs().max()) for gradient in gradients if gradient is not None) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_codec_goes_from_training_to_an_exported_int8_network(
        name: str, people: tuple[Instance, ...], tmp_path: Path) -> None:
    recipe = recipe_of(*CASES[name])
    baseline = trained(recipe, people, tmp_path / "train")
    context = Context(recipe, [Pool(people[:32])], [], tmp_path / "train", CPU)
    pruned = prune(baseline, Prune("prune", macs_reduction=0.3, epochs=1), context)
    assert 0.2 < pruned.report["reduction_reached"] < 0.4
    small = saved(pruned, recipe, tmp_path / "pruned")
    taught = distill(small, Distill("distill", weight=1.0, epochs=2), context)
    assert taught.history[-1]["loss"] < taught.history[0]["loss"]
    final = saved(taught, recipe, tmp_path / "distilled")
    on_grid = quantize(final, Quantize("quantize", images=128), replace(context, train=[Pool(people)]))
    last = [layer for layer, module in final.net.get_submodule("head.output").named_modules()
            if isinstance(module, nn.Conv2d)]
    assert on_grid.report["float_layers"] == [f"head.output.{layer}".rstrip(".") for layer in last]
    integer = saved(on_grid, recipe, tmp_path / "int8")
    for checkpoint, target in ((final, "cpu"), (integer, "cpu"), (integer, "jetson")):
        folder = tmp_path / f"{checkpoint.artifact.model['precision']}-{target}"
        export_checkpoint(checkpoint, folder, target_named(target), opset=17)  # refuses what says something else
        operators = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
        assert not operators & {"If", "Loop", "Shape"}  # what no device needs to compute
        session = open_session(open_artifact(folder))
        inputs = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
        outputs = session.infer(inputs)
        session.close()
        assert tuple(outputs) == recipe.build_codec().outputs
        keypoints_xy, scores = recipe.build_codec().decode(outputs)
        assert (keypoints_xy.shape, scores.shape) == ((3, 17, 2), (3, 17))
