"""Checkpoints: what was saved comes back bit for bit; what is damaged, foreign or mixed up does not come back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from edgekp.artifact import verify_artifact
from edgekp.errors import ArtifactError
from tests import tiny
from tests.manifests import accept_files
from train.models import ModelSpec, build, quantized
from train.models.channels import read_channels
from train.models.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint
from train.models.cost import count_macs, count_parameters
from train.models.quantized import fake_quantizers, insert_fake_quantizers

FACE = tiny.recipe((32, 32), tiny.FACENET, "regression")


def float_model(recipe: tiny.Recipe) -> tuple[nn.Module, ModelSpec]:
    net, spec, _ = tiny.network(recipe)
    return net, spec


def narrowed(recipe: tiny.Recipe) -> tuple[nn.Module, ModelSpec]:
    """A network whose first inner layer lost three of eight channels, as pruning would leave it."""
    _, spec = float_model(recipe)
    spec = replace(spec, channels={
        "backbone.stages.0.0.branches.0.0.body.0.0": (8, 5, 1), "backbone.stages.0.0.branches.0.0.body.0.1": (5, 5, 1),
        "backbone.stages.0.0.branches.0.0.body.1.0": (5, 8, 1)})
    net = build(spec)
    tiny.enliven(net)
    return net.eval(), spec


def on_grid(recipe: tiny.Recipe) -> tuple[nn.Module, ModelSpec]:
    net, spec = float_model(recipe)
    spec = quantized(spec, ("head.output",))
    assert spec.quantization
    graph = insert_fake_quantizers(net, spec.quantization)
    for number, quantizer in enumerate(fake_quantizers(graph).values()):
        quantizer.scale.fill_(0.01 + 0.001 * number)
    return graph, spec


@pytest.mark.parametrize(("recipe", "make"), [
    (tiny.recipe(), float_model), (tiny.recipe(), narrowed), (tiny.recipe(), on_grid), (FACE, float_model),
    (FACE, on_grid)])
@torch.no_grad()
def test_a_checkpoint_computes_what_was_saved_bit_for_bit(
        tmp_path: Path, recipe: tiny.Recipe, make: Callable[[tiny.Recipe], tuple[nn.Module, ModelSpec]]) -> None:
    net, spec = make(recipe)
    save_checkpoint(tmp_path, net, spec, recipe.contract())
    found = load_checkpoint(tmp_path)
    x = torch.randn(2, 3, *recipe.input.input_hw)
    assert torch.equal(found.net(x)[0], net(x)[0])
    assert found.spec == spec
    assert found.contract == recipe.contract()
    assert read_channels(found.net) == read_channels(net)
    assert not found.net.training
    facts = verify_artifact(tmp_path).model
    assert facts["parameters"] == count_parameters(net)
    assert facts["macs"] == count_macs(net, spec.input_hw)
    assert facts["precision"] == ("int8" if spec.quantization else "fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net, spec = float_model(tiny.recipe())
    save_checkpoint(tmp_path, net, spec, tiny.recipe().contract())
    return tmp_path


def sign_again(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda manifest: None) -> None:
    """Edit the manifest and make its digests fit, as somebody with intent would."""
    accept_files(folder, change)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load((folder / WEIGHTS).read_bytes())
    change(tensors)
    (folder / WEIGHTS).write_bytes(save(tensors))
    sign_again(folder)


def test_a_flipped_byte_is_refused(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-7] ^= 0x10
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ArtifactError, match="sha256"):
        load_checkpoint(folder)


@pytest.mark.parametrize("change", [
    lambda tensors: tensors.pop("head.output.bias"),
    lambda tensors: tensors.update(extra=torch.zeros(1)),
    lambda tensors: tensors.update({"head.output.bias": torch.zeros(18)}),
])
def test_missing_foreign_and_misshapen_tensors_are_refused(
        folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    rewrite(folder, change)
    with pytest.raises(ArtifactError, match="weights do not fit the specification") as refusal:
        load_checkpoint(folder)
    assert "\n" not in str(refusal.value)


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["pickle", "torch", "empty", "text"])
def test_a_pickle_under_another_name_is_refused_and_not_run(folder: Path, content: str) -> None:
    trap = folder / "it ran"
    path = folder / WEIGHTS
    if content == "torch":
        torch.save({"trap": Trap(trap)}, path)
    else:
        path.write_bytes({"pickle": pickle.dumps(Trap(trap)), "empty": b"", "text": b"weights"}[content])
    sign_again(folder)
    with pytest.raises(ArtifactError, match="weights do not fit"):
        load_checkpoint(folder)
    assert not trap.exists()


@pytest.mark.parametrize("change", [
    lambda spec: spec.update(backbone="resnet"),
    lambda spec: spec.update(head="gdconv"),
    lambda spec: spec.update(keypoints=18),
    lambda spec: spec.update(keypoints=None),
    lambda spec: spec.pop("input_hw"),
    lambda spec: spec.update(input_hw=[64]),
    lambda spec: spec.update(input_hw=[72, 64], options={"width": 8, "branches": 3}),
    lambda spec: spec["options"].update(width=16),
    lambda spec: spec["options"].update(depth=3),
    lambda spec: spec.update(options=None),
    lambda spec: spec.update(channels={"backbone.nowhere": [8, 8, 1]}),
    lambda spec: spec.update(channels={"backbone.stem.0.0": [3, 5, 7]}),
    lambda spec: spec.update(channels={"backbone.stem.0.0": [3]}),
    lambda spec: spec.update(quantization={"keep_float": ["head.output"]}),
    lambda spec: spec.update(quantization={"keep_float": ["elsewhere"]}),
])
def test_a_specification_that_does_not_fit_its_weights_is_refused(
        folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    sign_again(folder, lambda manifest: change(manifest["model"]["spec"]))
    with pytest.raises(ArtifactError, match="specification in its manifest") as refusal:
        load_checkpoint(folder)
    assert "\n" not in str(refusal.value)


def test_an_exported_model_is_no_checkpoint(folder: Path) -> None:
    sign_again(folder, lambda manifest: manifest.update(kind="onnx"))
    with pytest.raises(ArtifactError, match="holds a 'onnx', expected a 'checkpoint'"):
        load_checkpoint(folder)
