"""Two tasks on one backbone: each learns, both end with the same shared weights, and each is a model of its own."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deploy.export.__main__ import main as export_main
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact, verify_artifact
from edgekp.errors import RecipeError
from edgekp.recipe import CodecChoice, Data, Model, Recipe, SecondTask
from edgekp.recipe_file import load_recipe
from eval.__main__ import main as eval_main
from tests import tiny
from tests.train.test_distributed import in_processes
from train import run as run_module
from train.__main__ import main, train_key
from train.averaging import measure_statistics
from train.dataset import Batch, Pool
from train.models import build, spec_of
from train.models.checkpoint import load_checkpoint
from train.models.multitask import MultiTaskNet, build_together
from train.multitask import SharedLessons, fit_together
from train.objective import Objective, Part
from train.precision import Precision
from train.stepper import Lesson, Stepper
from train.task import Task
from train.world import World

CPU = torch.device("cpu")
FP32 = Precision(None, "cpu")
PLACES = SecondTask("places", Data("coco17"), CodecChoice("regression"), head="gdconv", loss="l1", augment=tiny.STILL)
RECIPE = replace(tiny.recipe(), second=PLACES)


def network(recipe: Recipe = RECIPE) -> MultiTaskNet:
    torch.manual_seed(0)
    return build_together(recipe.for_each_task(spec_of))


def tasks(folder: Path, second: int = 16, recipe: Recipe = RECIPE, **train: Any) -> list[Task]:
    """Two tasks on sets of 16 and of ``second`` people."""
    def task_of(task: Recipe) -> Task:
        (folder / task.name).mkdir(parents=True)
        people = tiny.instances(folder / task.name, 16 if task.second else second)
        settings = replace(task.train, **train)
        return Task(Path(task.name).name, task.contract(), [Pool(people)], [Pool(people)], settings, tiny.STILL)

    return recipe.for_each_task(task_of)


def shared(net: nn.Module) -> dict[str, torch.Tensor]:
    """What a network has besides its head."""
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("head.")}


def part_of(batch: Batch) -> Part:
    return Part(batch.inputs, batch.targets, batch.weight, batch.weight.sum(), torch.tensor(batch.weight.numel()))


def losses(nets: Sequence[nn.Module], step: list[Lesson]) -> list[float]:
    """Of each task's network in evaluation mode on its lesson."""
    with torch.no_grad():
        return [float(lesson.objective(net(lesson.batch.inputs), part_of(lesson.batch)))
                for net, lesson in zip(nets, step, strict=True)]


@pytest.mark.slow
def test_both_tasks_learn(tmp_path: Path) -> None:
    """An untrained network says maps of zeros, and its loss is what there is to learn."""
    recipe = replace(RECIPE, second=SecondTask("more", Data("coco17"), CodecChoice("heatmap")))
    both = tasks(tmp_path, 24, recipe, epochs=20)
    step = next(SharedLessons(*both, 0.3, FP32, CPU, World()).from_step(0))
    untrained = losses(network(recipe).eval().alone(), step)
    nets, history = fit_together(network(recipe), *both, 0.3, CPU)
    trained = losses(nets, step)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert trained[0] < 0.8 * untrained[0]
    assert trained[1] < 0.8 * untrained[1]


def test_each_task_has_its_metrics_in_the_history(tmp_path: Path) -> None:
    nets, history = fit_together(network(), *tasks(tmp_path, epochs=1), 0.3, CPU)
    assert set(history[0]) == {"epoch", "loss", "lr", "val_error", "val_pck@0.2", "val_places_error",
                               "val_places_pck@0.2"}
    assert not any(module.training for net in nets for module in net.modules())


def random_batches(count: int = 4) -> list[Batch]:
    """A batch of dark maps and one of bright coordinates, of uneven weight."""
    generator = torch.Generator().manual_seed(0)

    def batch(brightness: float, *target: int) -> Batch:
        weight = (torch.rand(count, 17, generator=generator) < 0.6).float()
        return Batch(torch.randn(count, 3, 64, 64, generator=generator) + brightness,
                     (torch.rand(count, *target, generator=generator),), weight)

    return [batch(-2.0, 17, 16, 16), batch(2.0, 17, 2)]


def lessons(shares: tuple[float, float], batches: list[Batch]) -> list[Lesson]:
    objectives = RECIPE.for_each_task(
        lambda task: Objective(Task("test", task.contract(), [], [], task.train, tiny.STILL), FP32))
    return [Lesson(*one) for one in zip(batches, objectives, shares, strict=True)]


def gradients(net: MultiTaskNet, shares: tuple[float, float], batches: list[Batch], **train: Any,
              ) -> dict[str, torch.Tensor]:
    settings = replace(RECIPE.train, clip_norm=1e9, **train)
    stepper = Stepper(net, settings, torch.optim.SGD(net.parameters(), 0.0), FP32, CPU, World())
    stepper.step(lessons(shares, batches), 0.0)
    return {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}


def assert_close(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], share: float = 1e-4) -> None:
    """To the rounding of fp32 sums in another order, a share of each tensor's largest gradient."""
    assert mine.keys() == theirs.keys()
    for name, one in mine.items():
        torch.testing.assert_close(one, theirs[name], rtol=0, atol=share * float(theirs[name].abs().max()) + 1e-7)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_gradient_is_the_sum_of_both_by_their_shares(parts: int) -> None:
    """In evaluation mode, where batch norm's statistics are not those of a part."""
    net, batches = network().eval(), random_batches()
    found = gradients(net, (0.7, 0.3), batches, accumulate=parts)
    main, second = (gradients(net, shares, batches) for shares in ((1.0, 0.0), (0.0, 1.0)))
    assert_close(found, {name: 0.7 * main[name] + 0.3 * second[name] for name in found})
    assert any(main[name].any() and second[name].any() for name in found if name.startswith("backbone."))


@pytest.mark.parametrize("mine", [0, 1])
def test_each_task_alone_gives_the_gradients_of_its_own_network(mine: int) -> None:
    net, batches = network().eval(), random_batches()
    found = gradients(net, ((1.0, 0.0), (0.0, 1.0))[mine], batches)
    alone = copy.deepcopy(net).alone()[mine]
    lesson = lessons((1.0, 1.0), batches)[mine]
    Stepper(alone, replace(RECIPE.train, clip_norm=1e9), torch.optim.SGD(alone.parameters(), 0.0), FP32, CPU,
            World()).step([lesson], 0.0)
    expected = {f"ends.{mine}.{name}" if name.startswith("head.") else name: parameter.grad
                for name, parameter in alone.named_parameters()}
    assert_close({name: found[name] for name in expected}, expected)


@pytest.mark.parametrize(("shares", "silent"), [((1.0, 0.0), "ends.1."), ((0.0, 1.0), "ends.0.")])
def test_a_task_without_a_share_leaves_no_gradient_in_its_head(shares: tuple[float, float], silent: str) -> None:
    found = gradients(network().train(), shares, random_batches())
    assert {name for name, gradient in found.items() if not gradient.any()} >= {
        name for name in found if name.startswith(silent)}
    assert all(gradient.any() for name, gradient in found.items() if name.startswith("ends.") and silent not in name)


@pytest.mark.parametrize("model", [replace(tiny.HRNET, visibility=True), replace(tiny.FACENET, neck="fpn")])
def test_in_evaluation_it_says_what_each_network_says_alone(model: Model) -> None:
    recipe = replace(RECIPE, model=model)
    net, inputs = network(recipe).eval(), [torch.randn(count, 3, 64, 64) for count in (1, 3)]
    with torch.no_grad():
        for alone, image, said in zip(net.alone(), inputs, net(*inputs), strict=True):
            expected = alone(image)
            assert len(said) == len(expected)
            for one, other in zip(said, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))
    assert [alone.visibility is not None for alone in net.alone()] == [model.visibility, False]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """Batch norm, in training, sees the batches of both tasks in both processes."""
    batches, settings = random_batches(8), replace(RECIPE.train, clip_norm=1e9)

    def job(world: World) -> dict[str, Any]:
        net, rows = network().train(), slice(world.rank, None, world.size)
        mine = [Batch(batch.inputs[rows], (batch.targets[0][rows],), batch.weight[rows]) for batch in batches]
        Stepper(net, settings, torch.optim.SGD(net.parameters(), 0.0), FP32, CPU, world).step(
            lessons((0.7, 0.3), mine), 0.0)
        return {name: parameter.grad.numpy() for name, parameter in net.named_parameters()
                if parameter.grad is not None}

    expected = {name: torch.from_numpy(value) for name, value in job(World()).items()}
    for found in in_processes(job, tmp_path):
        assert_close({name: torch.from_numpy(value) for name, value in found.items()}, expected, 1e-3)


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, in standard deviations of ``other``."""
    return float((one - other).abs().max() / other.std())


@torch.no_grad()
def test_evaluation_sees_the_statistics_that_training_saw() -> None:
    """Of a dark and a bright task; batches that pass one after the other, a mean over whose statistics is kept, do not.

    Running variances are unbiased, n / (n - 1) of those in training: 1 + 1 / 1023 for the smallest maps, ten times.
    """
    net, (dark, bright) = network(), random_batches()
    norms = [module for module in net.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    together, = net.train().backbone(torch.cat([dark.inputs, bright.inputs]))
    for batch, expected in zip((dark, bright), together.chunk(2), strict=True):
        assert gap(net.eval().backbone(batch.inputs)[0], expected) < 0.02
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    apart = [net.train().backbone(batch.inputs)[0] for batch in (dark, bright)]
    for batch, expected in zip((dark, bright), apart, strict=True):
        assert gap(net.eval().backbone(batch.inputs)[0], expected) > 0.5


def test_measured_statistics_are_those_of_both_tasks_in_one_batch() -> None:
    net, batches = network().eval(), random_batches()
    measure_statistics(net, [tuple(batch.inputs for batch in batches)], World())
    first = next(module for module in net.backbone.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in net.backbone.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        maps = first(torch.cat([batch.inputs for batch in batches]))
    torch.testing.assert_close(norm.running_var, maps.var((0, 2, 3)))


def test_the_second_task_goes_through_all_its_samples_at_its_own_pace(tmp_path: Path) -> None:
    main, second = tasks(tmp_path, second=24, epochs=4, batch=8)
    steps = list(SharedLessons(main, second, 0.3, FP32, CPU, World()).from_step(0))
    assert len(steps) == 8  # of two an epoch; the second task has three
    assert all([lesson.share for lesson in step] == [0.7, 0.3] for step in steps)
    people = [lesson.batch.targets[0].flatten(1).sum(1) for _, lesson in steps]
    for epoch in (people[:3], people[3:6]):
        assert len(set(torch.cat(epoch).tolist())) == 24
    assert people[0].tolist() != people[3].tolist()


@pytest.mark.parametrize("step", [1, 5])
def test_lessons_from_a_step_on_are_those_of_the_whole_run(tmp_path: Path, step: int) -> None:
    source = SharedLessons(*tasks(tmp_path, second=24, epochs=4, batch=8), 0.3, FP32, CPU, World())
    whole, rest = list(source.from_step(0))[step], next(source.from_step(step))
    for mine, theirs in zip(rest, whole, strict=True):
        assert torch.equal(mine.batch.inputs, theirs.batch.inputs)
        assert torch.equal(mine.batch.targets[0], theirs.batch.targets[0])


SECOND = """
[second]
name = "face"
share = 0.3
codec = { name = "regression" }
head = "gdconv"
loss = "wing"
metric = "nme"
[second.data]
skeleton = "ibug68"
drawn = { subject = "faces", train = 24, val = 4 }
"""

TRAINED, STATE = Path("runs/tiny/train"), Path("runs/tiny/train.partial.safetensors")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of COCO people and drawn faces, in a folder of its own."""
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(tiny.toml(SECOND))
    return path


@pytest.fixture
def train(path: Path) -> Callable[..., int]:
    return lambda *arguments: main(["--recipe", str(path), *arguments])


def weights() -> list[bytes]:
    return [(folder / "model.safetensors").read_bytes() for folder in (TRAINED, TRAINED / "face")]


@pytest.mark.slow
def test_a_run_leaves_two_checkpoints_on_the_same_backbone(
        path: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    pose, face = load_checkpoint(TRAINED), load_checkpoint(TRAINED / "face")
    assert [pose.contract, face.contract] == load_recipe(path).for_each_task(Recipe.contract)
    mine, theirs = shared(pose.net), shared(face.net)
    assert mine.keys() == theirs.keys()
    assert mine
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    verify_artifact(TRAINED / "face")
    assert eval_main(["run", "--artifact", str(TRAINED / "face"), "--data", "runs/tiny/face/data/val.json"]) == 0
    assert "nme" in capsys.readouterr().out
    assert train() == 0
    assert "train: up to date" in capsys.readouterr().err


@pytest.mark.slow
def test_both_models_are_exported(path: Path, train: Callable[..., int]) -> None:
    assert train() == 0
    assert export_main(["--recipe", str(path), "--target", "cpu"]) == 0
    exported = Path("runs/tiny/export/cpu")
    assert json.loads((exported / "models.json").read_text()) == {"models": ["float"]}
    x = torch.rand(2, 3, 64, 64)
    for artifact, checkpoint in ((exported, TRAINED), (exported / "face", TRAINED / "face")):
        with torch.no_grad():
            expected = load_checkpoint(checkpoint).net(x)[0]
        found, = open_session(open_artifact(artifact)).infer(x.numpy()).values()
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("average", ["ema", "swa"])
def test_a_stopped_run_goes_on_to_the_same_weights(
        train: Callable[..., int], monkeypatch: pytest.MonkeyPatch, average: str) -> None:
    settings = ["--set", f"train.average={average}"]
    assert train(*settings) == 0
    undisturbed, history = weights(), (TRAINED / "history.json").read_bytes()
    calls, step = [], run_module.Stepper.step

    def signalled(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Stepper, "step", signalled)
        assert train("--force", *settings) == 130
    assert STATE.exists()
    assert train("--force", "--resume", *settings) == 0
    assert weights() == undisturbed
    assert (TRAINED / "history.json").read_bytes() == history


def test_the_main_task_begins_with_the_weights_that_it_has_alone() -> None:
    torch.manual_seed(0)
    alone, (main, _) = build(spec_of(RECIPE)).state_dict(), network().alone()
    assert alone.keys() == main.state_dict().keys()
    assert all(torch.equal(value, alone[name]) for name, value in main.state_dict().items())


def test_the_key_of_the_stage_knows_the_second_task_and_its_data(path: Path, tmp_path: Path) -> None:
    people = SECOND.replace("drawn = { subject = \"faces\", train = 24, val = 4 }",
                            'train = [{ labels = "faces.json" }]\nval = [{ labels = "faces.json" }]')
    path.write_text(tiny.toml(people))
    (tmp_path / "data/faces.json").write_text('{"images": []}')
    before = train_key(load_recipe(path)).to_json()
    assert before["settings"]["second"]["share"] == 0.3
    assert train_key(load_recipe(path, ["second.share=0.5"])).to_json() != before
    assert train_key(load_recipe(path, ["second.data.hint=elsewhere"])).to_json() == before
    (tmp_path / "data/faces.json").write_text('{"images": []} ')
    assert train_key(load_recipe(path)).to_json()["inputs"] != before["inputs"]
    path.write_text(tiny.toml())
    assert "second" not in train_key(load_recipe(path)).to_json()["settings"]


REFUSED = {
    "second.share=1.0": r"second\.share: 1\.0, expected a share of the loss between 0 and 1",
    "second.share=0.0": r"second\.share: 0\.0, expected a share of the loss between 0 and 1",
    "second.name=Face": r"second\.name: 'Face', expected a word of small letters, digits and _, other than data, ",
    "second.name=data": r"second\.name: 'data', expected a word",
    "second.codec.name=openpose": r"^second task 'face': .*'ibug68'",
    "second.input={input_hw=[64, 48]}": r"second\.input\.input_hw: \[64, 48\], expected \[64, 64\] as in \[input\]: "
                                        "the backbone sees both tasks in one batch",
    "augment.multi_scale=[0.5, 1.0]": r"second\.augment\.multi_scale: \[\], expected \[0\.5, 1\.0\] as in \[augment\]",
    "second.augment.half_body_p=0.5": r"second task 'face': .*augment\.half_body_p: 0\.5, but skeleton 'ibug68' is no",
    "second.data.skeleton=nobody": r"second task 'face': .*'nobody'",
    "second.los=wing": r"no key 'second\.los'; known: name, data, codec, share",
}


@pytest.mark.parametrize("override", REFUSED)
def test_tasks_that_do_not_fit_are_refused_in_one_line(path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match=REFUSED[override]) as refusal:
        load_recipe(path, [override])
    assert "\n" not in str(refusal.value)


def test_tasks_on_whole_images_are_refused(path: Path) -> None:
    path.write_text(tiny.toml(SECOND).replace("input_hw = [64, 64]", "input_hw = [64, 64]\npadding = 1.0"))
    with pytest.raises(RecipeError, match="second: codec 'openpose' is shown whole images, and two tasks learn"):
        load_recipe(path, ["codec.name=openpose"])


def test_a_spatial_transformer_is_refused(path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.transformer: true, but it learns what is upright from one task"):
        load_recipe(path, ["codec.name=regression", "model.transformer=true"])


@pytest.mark.parametrize(("override", "error"), [
    ("second.loss=kl", r"second task 'face': train\.loss: 'kl' does not read the targets of codec 'regression'"),
    ("second.head=heatmap", r"second task 'face': model\.head: 'heatmap' says \['heatmaps'\], the codec expects")])
def test_a_head_or_loss_that_does_not_fit_is_refused_before_data_is_drawn(
        train: Callable[..., int], capsys: pytest.CaptureFixture[str], override: str, error: str) -> None:
    assert train("--set", override) == 2
    assert re.search(error, capsys.readouterr().err)
    assert not Path("runs").exists()


def test_the_recipe_of_pose_and_face_is_accepted(repository: Path) -> None:
    recipe = load_recipe(repository / "recipes/pose-face_mobilefacenet.toml")
    pose, face = build_together(recipe.for_each_task(spec_of)).eval().alone()
    with torch.no_grad():
        shapes = [tuple(net(torch.zeros(1, 3, 112, 112))[0].shape) for net in (pose, face)]
    assert shapes == [(1, 17, 2), (1, 68, 2)]
    assert recipe.second is not None
    assert recipe.second.share == 0.3
