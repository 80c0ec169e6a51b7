"""The techniques of distillation as steps: what is kept, what is refused, and what a mistake in the recipe says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from edgekp.preprocess import InputSpec
from edgekp.recipe import Model
from edgekp.recipe_steps import Distill, Prune
from edgekp.sample import Instance
from edgekp.skeletons import SKELETONS
from optimize.__main__ import main
from optimize.distill import TECHNIQUES, distill, lesson_of
from optimize.prune import prune
from optimize.step import Context
from tests import tiny
from tests.stages import leave_stage
from train.dataset import Pool
from train.distillation import Pupil
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]
RECIPE = tiny.recipe()
SIMCC = tiny.recipe(codec="simcc", loss="kl")
FACE = tiny.recipe(model=Model("pfld", options={"width": 0.25}), codec="regression", loss="wing")
WIDE = tiny.recipe(model=Model("hrnet_lite", options={"width": 16, "branches": 2, "blocks": 1, "modules": 1}))


def checkpoint_of(recipe: tiny.Recipe, folder: Path, **contract: Any) -> Checkpoint:
    torch.manual_seed(9)
    net, spec, its = tiny.network(recipe)
    folder.mkdir(parents=True)
    save_checkpoint(folder, net, spec, replace(its, **contract))
    return load_checkpoint(folder)


def test_the_recipe_knows_the_very_techniques_that_there_are() -> None:
    assert set(get_args(get_type_hints(Distill)["technique"])) == set(TECHNIQUES)


@pytest.mark.parametrize("technique", ["feature", "dwpose"])
def test_adapters_are_not_in_the_checkpoint(technique: str, tmp_path: Path, parent: Parent,
                                            context: MakeContext) -> None:
    student = parent(RECIPE)
    settings = Distill("distill", str(checkpoint_of(WIDE, tmp_path / "wide").artifact.folder), technique=technique,
                       epochs=1)  # type: ignore[arg-type]
    result = distill(student, settings, context(RECIPE))
    before, after = student.net.state_dict(), result.net.state_dict()
    assert after.keys() == before.keys()
    assert not torch.equal(after["head.output.weight"], before["head.output.weight"])
    assert result.report["technique"] == technique
    assert result.report["features"] == ["backbone"]
    (tmp_path / "kept").mkdir()
    save_checkpoint(tmp_path / "kept", result.net, result.spec, student.contract)
    kept = load_checkpoint(tmp_path / "kept")
    torch.testing.assert_close(kept.net.state_dict(), after, rtol=0, atol=0)


def test_a_run_can_be_repeated_though_its_adapters_begin_at_random(
        tmp_path: Path, parent: Parent, context: MakeContext) -> None:
    student = parent(RECIPE)
    settings = Distill("distill", str(checkpoint_of(WIDE, tmp_path / "wide").artifact.folder), technique="feature",
                       epochs=1)
    first, again = (distill(student, settings, context(RECIPE)).net.state_dict() for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_adapters_have_the_widths_that_pruning_has_left(tmp_path: Path, parent: Parent, context: MakeContext) -> None:
    whole = parent(WIDE)
    pruned = prune(whole, Prune("prune", macs_reduction=0.5, round_to=2, epochs=1), context(WIDE))
    (tmp_path / "pruned").mkdir()
    save_checkpoint(tmp_path / "pruned", pruned.net, pruned.spec, whole.contract)
    student = load_checkpoint(tmp_path / "pruned")
    settings = Distill("distill", technique="dwpose", features=("backbone", "backbone.stem"), epochs=1)
    pupil, teacher = lesson_of(student, whole, settings)
    assert isinstance(pupil, Pupil)
    head = student.net.get_submodule("head.output")
    assert isinstance(head, nn.Conv2d)
    assert head.in_channels < 16
    assert isinstance(pupil.adapters[0], nn.Conv2d)
    assert (pupil.adapters[0].in_channels, pupil.adapters[0].out_channels) == (head.in_channels, 16)
    assert teacher.features == settings.features
    taught = distill(student, settings, context(WIDE))
    assert taught.spec == student.spec
    assert taught.net.state_dict().keys() == student.net.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize(("technique", "weight"), [("output", 1.0), ("dwpose", 1.0), ("feature", 0.9)])
def test_a_teacher_alone_is_come_near_to_without_a_label(
        technique: str, weight: float, tmp_path: Path, parent: Parent, people: tuple[Instance, ...]) -> None:
    """In what the technique teaches: outputs, or the backbone's map behind the adapter that is thrown away."""
    student, teacher = parent(RECIPE), checkpoint_of(RECIPE, tmp_path / "teacher")
    silent = tuple(replace(person, visibility=0 * person.visibility) for person in people[:16])
    context = Context(replace(RECIPE, augment=tiny.STILL), [Pool(silent)], [], tmp_path / "teacher",
                      torch.device("cpu"))
    settings = Distill("distill", weight=weight, technique=technique, epochs=30, lr=1e-2)  # type: ignore[arg-type]
    net = distill(student, settings, context).net
    part = "backbone" if technique == "feature" else ""
    apart = [distance(each.get_submodule(part), teacher.net.get_submodule(part)) for each in (student.net, net)]
    assert apart[1] < 0.5 * apart[0]


@torch.no_grad()
def distance(one: nn.Module, other: nn.Module) -> float:
    x = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return float((one(x)[-1] - other(x)[-1]).square().mean())


# ---- what is refused

@pytest.mark.parametrize(("recipe", "change", "words"), [
    (RECIPE, {"technique": "coordinate"},
     r"technique: 'coordinate' does not fit codec 'heatmap'; those that do: output, feature, dwpose$"),
    (SIMCC, {"technique": "coordinate"}, r"does not fit codec 'simcc'"),
    (RECIPE, {"features": ("backbone",)}, r"features: technique 'output' learns none; .* choose feature or dwpose$"),
    (RECIPE, {"temperature": 2.0}, r"temperature: 2, but only bins of codec 'simcc'"),
    (SIMCC, {"technique": "feature", "temperature": 2.0}, r"temperature: 2, .*'feature' learns no outputs"),
    (RECIPE, {"technique": "feature", "weight": 1.0}, r"weight: 1 with technique 'feature' leaves the head without"),
    (RECIPE, {"technique": "dwpose", "features": ("backbone.stam",)}, r"no module 'backbone.stam'; did you mean 'back"),
    (RECIPE, {"technique": "dwpose", "features": ("backbone.stages",)}, r"no module 'backbone.stages'"),
    (SIMCC, {"technique": "dwpose", "features": ("head.output",)}, r"'head.output' of .* says no map \(N, C, h, w\)"),
])
def test_a_technique_or_setting_that_does_not_fit_is_refused(
        recipe: tiny.Recipe, change: dict[str, Any], words: str, parent: Parent, context: MakeContext) -> None:
    with pytest.raises(RecipeError, match=rf"^optimize\.distill\..*{words}"):
        distill(parent(recipe), Distill("distill", epochs=1, **change), context(recipe))


def test_features_are_not_compared_behind_two_transformers(parent: Parent, context: MakeContext) -> None:
    recipe = replace(FACE, model=replace(FACE.model, transformer=True))
    with pytest.raises(RecipeError, match="puts the input upright in its own way"):
        distill(parent(recipe), Distill("distill", technique="feature", epochs=1), context(recipe))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(RecipeError, match=r"optimize\.distill\.temperature: .*, expected a number above 0"):
        Distill("distill", temperature=temperature)


def missing(_: Path) -> None:
    """No folder at all."""


def of_another_skeleton(folder: Path) -> None:
    checkpoint_of(RECIPE, folder, skeleton=SKELETONS["lsp14"])


def of_another_size(folder: Path) -> None:
    checkpoint_of(tiny.recipe((64, 96)), folder, input=InputSpec((64, 96)))


def damaged(folder: Path) -> None:
    weights = checkpoint_of(RECIPE, folder).artifact.model_path
    weights.write_bytes(weights.read_bytes()[:-1])


def without_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(("made", "words"), [
    (missing, "no manifest.json"), (without_manifest, "no manifest.json"), (damaged, "sha256"),
    (of_another_skeleton, "do not fit each other: skeleton."), (of_another_size, "input.input_hw: [64, 64] here"),
])
def test_a_teacher_that_cannot_teach_ends_the_command_in_one_line(
        made: Callable[[Path], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    checkpoint_of(RECIPE, tmp_path / "runs/tiny/train")
    leave_stage(tmp_path / "runs/tiny/train")
    made(tmp_path / "teacher")
    step = f'[[optimize]]\nmethod = "distill"\nteacher = {json.dumps(str(tmp_path / "teacher"))}\n'
    (tmp_path / "tiny.toml").write_text(tiny.toml(step))
    assert main(["--recipe", "tiny.toml"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in last
    assert str(tmp_path / "teacher") in last
    assert not (tmp_path / "runs/tiny/optimize/distilled").exists()
