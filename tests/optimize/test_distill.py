"""Distillation: the teacher must fit, is left alone, and pulls the student towards itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekp.errors import ArtifactError, RecipeError
from edgekp.preprocess import InputSpec
from edgekp.recipe_steps import Distill
from edgekp.skeletons import SKELETONS
from optimize.distill import distill
from optimize.step import Context
from tests import tiny
from train.models import quantized
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]
RECIPE = tiny.recipe()
ONCE = Distill("distill", epochs=1)


def teacher(tmp_path: Path, recipe: tiny.Recipe) -> Path:
    torch.manual_seed(9)
    net, spec, contract = tiny.network(recipe)
    folder = tmp_path / "teacher"
    folder.mkdir()
    save_checkpoint(folder, net, spec, contract)
    return folder


@torch.no_grad()
def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    torch.manual_seed(1)
    x = torch.randn(8, 3, 64, 64)
    return float((one(x)[0] - other(x)[0]).square().mean())


@pytest.mark.slow
def test_the_student_comes_nearer_to_its_teacher_than_by_labels_alone(
        tmp_path: Path, parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    options = {"width": 16, "branches": 2, "blocks": 1, "modules": 1}
    folder = teacher(tmp_path, tiny.recipe(model=tiny.Model("hrnet_lite", options=options)))
    taught_by = load_checkpoint(folder)
    apart = {}
    for weight in (0.0, 1.0):
        settings = Distill("distill", str(folder), weight, epochs=20, lr=1e-2)
        result = distill(checkpoint, settings, context(RECIPE))
        apart[weight] = distance(result.net, taught_by.net)
        assert result.spec == checkpoint.spec
        assert result.report["teacher_parameters"] > 2 * checkpoint.artifact.model["parameters"]
    assert apart[1.0] < 0.9 * apart[0.0]


def test_the_teacher_and_the_parent_are_left_as_they_were(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    before = {name: tensor.clone() for name, tensor in checkpoint.net.state_dict().items()}
    files = {path.name: path.read_bytes() for path in checkpoint.artifact.folder.iterdir()}
    distill(checkpoint, ONCE, context(RECIPE))
    assert all(torch.equal(before[name], tensor) for name, tensor in checkpoint.net.state_dict().items())
    assert files == {path.name: path.read_bytes() for path in checkpoint.artifact.folder.iterdir()}


@pytest.mark.parametrize(("change", "fields"), [
    ({"skeleton": SKELETONS["lsp14"]}, ["skeleton.name", "skeleton.keypoints", "skeleton.flip_pairs"]),
    ({"input": InputSpec((64, 64), color="BGR")}, ["input.color"]),
    ({"input": InputSpec((64, 64), padding=1.0, mean=(0.0, 0.0, 0.0))}, ["input.padding", "input.mean"]),
])
def test_a_teacher_of_another_contract_is_refused_field_by_field(
        tmp_path: Path, parent: Parent, context: MakeContext, change: dict[str, object], fields: list[str]) -> None:
    checkpoint = parent(RECIPE)
    folder = tmp_path / "teacher"
    folder.mkdir()
    contract = replace(checkpoint.contract, **change)  # type: ignore[arg-type]
    save_checkpoint(folder, checkpoint.net, checkpoint.spec, contract)
    with pytest.raises(ArtifactError) as refusal:
        distill(checkpoint, replace(ONCE, teacher=str(folder)), context(RECIPE))
    for field in fields:
        assert f"{field}: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_teacher_that_is_not_there_is_refused(parent: Parent, context: MakeContext, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere: no manifest\.json"):
        distill(parent(RECIPE), replace(ONCE, teacher=str(tmp_path / "nowhere")), context(RECIPE))


@pytest.mark.parametrize("weight", [-0.01, 1.01, float("nan")])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(RecipeError, match=r"optimize\.distill\.weight: .*, expected a share from 0 to 1"):
        Distill("distill", weight=weight)


def test_distilling_after_quantization_is_refused(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    on_grid = replace(checkpoint, spec=quantized(checkpoint.spec, ("head.output",)))
    with pytest.raises(RecipeError, match="'distill' comes after 'quantize'; put quantize last"):
        distill(on_grid, ONCE, context(RECIPE))
