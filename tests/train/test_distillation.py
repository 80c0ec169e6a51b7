"""What is learnt of a teacher: nothing where the student is the teacher already, and never by the teacher itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekp.preprocess import InputSpec
from edgekp.recipe import Model
from edgekp.sample import Instance
from tests import tiny
from train import run as run_module
from train.dataset import Batch, Pool
from train.distillation import Pupil, features_apart, softened, trusted, with_features
from train.lessons import Lessons
from train.loop import fit
from train.losses import SIMCC_SHARPNESS, kl
from train.models import KeypointNet, build, spec_of
from train.objective import Objective, Part
from train.precision import Precision
from train.resume import save_state
from train.stepper import Lesson, Stepper
from train.task import Task, Teacher
from train.world import World

CPU, FP32 = torch.device("cpu"), Precision(None, "cpu")
RECIPE = tiny.recipe()
SIMCC = tiny.recipe(codec="simcc", loss="kl")
FACE = replace(tiny.recipe(model=Model("pfld", options={"width": 0.25}), codec="regression", loss="wing"),
               input=InputSpec((64, 64)))
BACKBONE = ("backbone",)
TEACHERS: dict[str, tuple[tiny.Recipe, dict[str, Any]]] = {
    "outputs": (RECIPE, {}),
    "features": (RECIPE, {"outputs": False, "features": BACKBONE}),
    "several features": (RECIPE, {"outputs": False, "features": ("backbone.stem", "backbone")}),
    "both, fading": (RECIPE, {"features": BACKBONE, "fades": True}),
    "bins, softened": (SIMCC, {"temperature": 4.0}),
    "bins and features": (SIMCC, {"features": BACKBONE, "fades": True}),
    "bounded coordinates": (FACE, {"bounded": True}),
}


def network(recipe: tiny.Recipe, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return tiny.network(recipe)[0]


def taught(name: str, student: nn.Module, teacher: nn.Module, weight: float = 1.0) -> tuple[nn.Module, Objective]:
    """A student, which says its features where they are learnt, and its loss."""
    recipe, kind = TEACHERS[name]
    task = Task("test", recipe.contract(), [], [], recipe.train, tiny.STILL,
                Teacher(teacher, weight, **kind))
    features = kind.get("features", ())
    image = torch.zeros(1, 3, 64, 64)
    widths = [[said.shape[1] for said in with_features(net, features, image)[1]] for net in (student, teacher)]
    pupil = Pupil(student, features, list(zip(*widths, strict=True))) if features else student
    pupil.train()
    student.eval()  # the statistics of batch norm are the teacher's
    return pupil, Objective(task, FP32)


def part_of(recipe: tiny.Recipe, labelled: bool = False, count: int = 4) -> Part:
    """Random images and targets, of which none has a label unless asked for."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 3, 64, 64, generator=generator)
    with torch.no_grad():
        targets = tuple(torch.rand(said.shape, generator=generator) for said in network(recipe)(inputs))
    weight = torch.full((count, 17), float(labelled))
    return Part(inputs, targets, weight, weight.sum(), torch.tensor(weight.numel()))


@pytest.mark.parametrize("name", TEACHERS)
def test_a_student_who_is_the_teacher_has_nothing_to_learn(name: str) -> None:
    net = network(TEACHERS[name][0])
    pupil, objective = taught(name, net, copy.deepcopy(net))
    part = part_of(TEACHERS[name][0])
    assert objective(pupil(part.inputs), part).item() == pytest.approx(0, abs=1e-5)
    other, objective = taught(name, network(TEACHERS[name][0], seed=1), copy.deepcopy(net))
    assert objective(other(part.inputs), part).item() > 1e-2


@pytest.mark.parametrize("name", TEACHERS)
def test_the_gradient_reaches_the_student_and_not_the_teacher(name: str) -> None:
    student, teacher = (network(TEACHERS[name][0], seed) for seed in (0, 1))
    pupil, objective = taught(name, student, teacher)
    part = part_of(TEACHERS[name][0])
    torch.autograd.backward(objective(pupil(part.inputs), part))
    moved = {key for key, parameter in pupil.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    silent = {key for key, _ in pupil.named_parameters()} - moved
    assert all(key.startswith("net.head.") for key in silent) if "outputs" in TEACHERS[name][1] else not silent
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_fading_teacher_has_its_whole_share_at_first_half_of_it_in_the_middle_and_none_in_the_end() -> None:
    pupil, objective = taught("both, fading", network(RECIPE), network(RECIPE, 1), weight=0.8)
    steady = Objective(Task("test", RECIPE.contract(), [], [], RECIPE.train, tiny.STILL,
                            replace(objective.teacher, fades=False)), FP32)  # type: ignore[type-var]
    silent = Objective(Task("test", RECIPE.contract(), [], [], RECIPE.train, tiny.STILL), FP32)
    part = part_of(RECIPE, labelled=True)
    outputs = pupil(part.inputs)
    first, middle, last = (objective.at(done)(outputs, part).item() for done in (0.0, 0.5, 1.0))
    alone = silent(outputs[:1], part).item()
    assert first == steady.at(1.0)(outputs, part).item() != pytest.approx(alone, rel=1e-2)
    assert middle == pytest.approx((first + last) / 2)
    assert last == alone


def test_the_lessons_of_a_run_go_from_its_first_step_to_its_last(people: tuple[Instance, ...]) -> None:
    """Also those of a run that goes on in the middle."""
    task = Task("test", RECIPE.contract(), [Pool(people)], [], RECIPE.train, tiny.STILL)
    lessons = Lessons(task, FP32, CPU, World())
    for first in (0, 3):
        with closing(lessons.from_step(first)) as steps:
            done = [lesson.objective.keywords["done"] for (lesson,) in steps]  # type: ignore[attr-defined]
        assert done == [step / 5 for step in range(first, 6)]


@pytest.mark.parametrize("name", ["both, fading", "bounded coordinates", "bins, softened"])
def test_a_batch_in_parts_has_the_loss_of_the_whole(name: str) -> None:
    recipe = TEACHERS[name][0]
    whole = part_of(recipe, labelled=True, count=8)
    batch = Batch(whole.inputs, whole.targets, whole.weight * (torch.arange(17) % 3 > 0))
    losses = []
    for parts in (1, 4):
        pupil, objective = taught(name, network(recipe), network(recipe, 1), weight=0.5)
        stepper = Stepper(pupil, replace(recipe.train, accumulate=parts), torch.optim.SGD(pupil.parameters(), 1e-9),
                          FP32, CPU, World())
        losses.append(stepper.step([Lesson(batch, objective)], 1e-9).loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


# ---- a student that says its features

def test_a_pupil_in_evaluation_mode_is_its_network() -> None:
    net = network(RECIPE)
    pupil = Pupil(net, BACKBONE, [(8, 24)])
    image = torch.randn(2, 3, 64, 64)
    assert len(pupil(image)) == 2
    assert pupil(image)[1].shape == (2, 24, 16, 16)
    pupil.eval()
    assert len(pupil(image)) == 1
    torch.testing.assert_close(pupil(image), net(image), rtol=0, atol=0)


def test_of_several_maps_a_feature_is_the_last_one() -> None:
    face = network(FACE)
    assert isinstance(face, KeypointNet)
    image = torch.randn(2, 3, 64, 64)
    _, (feature,) = with_features(face, BACKBONE, image)
    torch.testing.assert_close(feature, face.backbone(image)[-1])


def test_no_hook_outlives_a_forward_pass_not_even_one_that_fails() -> None:
    net = network(RECIPE)
    with_features(net, BACKBONE, torch.zeros(1, 3, 64, 64))
    with pytest.raises(RuntimeError):
        with_features(net, BACKBONE, torch.zeros(1, 5, 64, 64))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_run_that_learns_features_goes_on_where_it_stopped(
        people: tuple[Instance, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapters are part of the state."""
    def run(state: Path, resume: bool = False) -> nn.Module:
        torch.manual_seed(0)
        student, teacher = (build(spec_of(RECIPE)) for _ in range(2))
        task = Task("test", RECIPE.contract(), [Pool(people)], [], RECIPE.train, tiny.STILL,
                    Teacher(teacher.eval().requires_grad_(False), 0.5, features=BACKBONE, fades=True),
                    state=state, resume=resume)
        pupil = Pupil(student, BACKBONE, [(8, 8)])
        pupil.adapters[0] = nn.Conv2d(8, 8, 1)
        return fit(pupil, task, CPU)[0]

    undisturbed = run(tmp_path / "whole.safetensors")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "save_state", tiny.nth_call(save_state, 1, KeyboardInterrupt))
        run(tmp_path / "state.safetensors")
    resumed = run(tmp_path / "state.safetensors", resume=True)
    pairs = zip(undisturbed.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(mine, theirs) for (name, mine), (other, theirs) in pairs)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    return tiny.instances(tmp_path_factory.mktemp("people"), 16)


# ---- the formulas

def test_silence_is_apart_by_one_whatever_the_scale(generator: torch.Generator) -> None:
    its = 37 * torch.randn(3, 5, 4, 6, generator=generator)
    torch.testing.assert_close(features_apart((torch.zeros_like(its),), (its,)), torch.ones(3))
    torch.testing.assert_close(features_apart((0.9 * its, its), (its, its)), torch.full((3,), 0.01 / 2))


def test_dead_features_are_no_division_by_zero() -> None:
    dead = torch.zeros(2, 3, 4, 4)
    assert features_apart((dead,), (dead,)).tolist() == [0, 0]


def test_maps_of_two_sizes_are_compared_on_the_coarser_grid(generator: torch.Generator) -> None:
    coarse = torch.randn(2, 3, 4, 6, generator=generator)
    detail = torch.tensor([[1.0, 0.0], [0.0, -1.0]]).repeat(4, 6)  # which the coarse map cannot know
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3) + detail
    for mine, its in ((fine, coarse), (coarse, fine)):
        torch.testing.assert_close(features_apart((mine,), (its,)), torch.zeros(2))


def bins(generator: torch.Generator) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, 3, count, generator=generator) for count in (10, 14))


def test_at_temperature_one_softened_bins_are_those_of_the_labels_loss(generator: torch.Generator) -> None:
    mine, its, weight = bins(generator), bins(generator), torch.rand(2, 3, generator=generator)
    plain = softened(mine, its, weight, temperature=1.0, sharpness=SIMCC_SHARPNESS)
    torch.testing.assert_close(plain, kl(mine, its, weight))


def test_very_soft_bins_are_compared_by_their_squares(generator: torch.Generator) -> None:
    """Hinton's limit: T^2 KL becomes the variance of the logits' difference over 2, up to third powers over T."""
    mine, its = bins(generator), bins(generator)
    limit = torch.stack([(2 * (a - b)).double().var(-1, correction=0) / 2
                         for a, b in zip(mine, its, strict=True)]).sum(0)
    mine, its = (tuple(each.double() for each in both) for both in (mine, its))
    found = softened(mine, its, torch.ones(2, 3, dtype=torch.double), temperature=1e4, sharpness=2.0)
    torch.testing.assert_close(found, limit, rtol=1e-2, atol=0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_bounded_teacher_is_heard_where_it_is_nearer_or_nobody_knows() -> None:
    student = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    teacher = torch.tensor([[0.5, 1.5, 9.0, 0.0]])
    weight = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    assert trusted(student, teacher, weight).tolist() == [[1, 0, 1, 0]]


def test_what_a_bounded_teacher_may_not_say_the_labels_say() -> None:
    """Keypoint by keypoint against the formula, with squared errors: (1 - w) label + w teacher, or the label alone."""
    recipe = replace(FACE, train=replace(FACE.train, loss="mse"))
    rng = np.random.default_rng(0)
    said, its, true = rng.normal(size=(3, 4, 17, 2)).astype(np.float32)
    weight = (rng.random((4, 17)) < 0.7).astype(np.float32)

    class Says(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            return (torch.from_numpy(its),)

    part = Part(torch.zeros(4, 3, 64, 64), (torch.from_numpy(true),), torch.from_numpy(weight),
                torch.tensor(weight.sum()), torch.tensor(weight.size))
    objective = Objective(Task("test", recipe.contract(), [], [], recipe.train, tiny.STILL,
                               Teacher(Says(), 0.4, bounded=True)), FP32)
    squares: Callable[[Any, Any], Any] = lambda a, b: ((a - b)**2).sum(-1)  # noqa: E731
    heard = 0.4 * ((squares(its, true) < squares(said, true)) | (weight == 0))
    assert 0.1 < heard.mean() < 0.35  # of both kinds
    expected = ((squares(said, true) * weight * (1 - heard)).sum() / weight.sum()
                + (squares(said, its) * heard).sum() / weight.size)
    assert objective((torch.from_numpy(said),), part).item() == pytest.approx(float(expected), rel=1e-5)
