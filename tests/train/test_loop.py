"""The training loop: it learns, listens to a teacher, stops at nonsense, and depends on its seed alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from edgekp.errors import TrainingError
from edgekp.sample import Instance
from tests import tiny
from train.averaging import Average
from train.dataset import KeypointDataset, Pool
from train.history import ERROR, PCK, Entry, Monitor
from train.lessons import Lessons
from train.loop import fit
from train.models import build, spec_of
from train.run import Run
from train.stepper import Outcome, Stepper
from train.task import Task, Teacher

CPU = torch.device("cpu")
RECIPE = tiny.recipe()


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    return tiny.instances(tmp_path_factory.mktemp("people"), 16)


def learn(people: tuple[Instance, ...], teacher: Teacher | None = None, val: int = 0, monitor: Monitor = PCK,
          **train: Any) -> tuple[nn.Module, list[Entry]]:
    torch.manual_seed(0)
    task = Task("test", RECIPE.contract(), [Pool(people)], [Pool(people[:val])] if val else [],
                replace(RECIPE.train, **train), tiny.STILL, teacher, monitor=monitor)
    return fit(build(spec_of(RECIPE)), task, CPU)


def test_the_loss_falls_and_the_history_has_one_entry_an_epoch(people: tuple[Instance, ...]) -> None:
    _, history = learn(people, val=8, epochs=8, validate_every=3)
    losses = [entry["loss"] for entry in history]
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert losses[-1] < 0.9 * losses[0]
    assert [int(entry["epoch"]) for entry in history if "val_pck@0.2" in entry] == [3, 6, 8]
    assert 0 <= history[-1]["val_pck@0.2"] <= 1
    assert history[-1]["lr"] < 0.02 * RECIPE.train.lr


def test_a_seed_gives_the_same_weights_and_another_seed_others(people: tuple[Instance, ...]) -> None:
    first, again, other = (learn(people, epochs=2, seed=seed)[0] for seed in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_what_comes_back_is_the_average_in_evaluation_mode(people: tuple[Instance, ...]) -> None:
    net, _ = learn(people, epochs=1)
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize(("lr", "loss"), [(1e30, r"(nan|inf|\de\+\d+)"), (float("inf"), "nan"), (30.0, r"\d.*e\+\d+")])
def test_a_run_that_diverges_ends_and_says_what_to_try(people: tuple[Instance, ...], lr: float, loss: str) -> None:
    message = rf"^test: the loss is {loss} at step \d+ of 8(, \d+ times that of the first)?; try a lower learning rate"
    with pytest.raises(TrainingError, match=message) as stop:
        learn(people, epochs=4, lr=lr)
    assert "\n" not in str(stop.value)


def scripted(monkeypatch: pytest.MonkeyPatch, monitor: Monitor, values: list[float]) -> None:
    """Validations that say these values, whatever the network."""
    said = iter(values)
    monkeypatch.setattr(Lessons, "examine", lambda *_: {monitor.name: next(said)})


@pytest.mark.parametrize(("monitor", "values"), [(PCK, [0.1, 0.5, 0.4, 0.5, 0.9]), (ERROR, [0.5, 0.1, 0.4, 0.1, 0.0])])
@pytest.mark.parametrize("average", ["ema", "swa"])
def test_early_stop_returns_the_weights_of_the_best_epoch(
        people: tuple[Instance, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        monitor: Monitor, values: list[float], average: str) -> None:
    settings = {"epochs": 5, "validate_every": 1, "average": average, "swa_share": 0.8}
    averages: list[dict[str, torch.Tensor]] = []
    examine = Run._examine
    monkeypatch.setattr(Run, "_examine", lambda run: (examine(run), averages.append(
        {name: value.clone() for name, value in run.average.net.state_dict().items()}))[0])
    scripted(monkeypatch, monitor, values)
    net, history = learn(people, monitor=monitor, patience=2, **settings)
    assert len(history) == 4
    assert all(torch.equal(value, averages[1][name]) for name, value in net.state_dict().items())
    assert not all(torch.equal(value, averages[3][name]) for name, value in net.state_dict().items())
    assert capsys.readouterr().err.splitlines()[-1] == (
        "test: stopped early: 2 validations without improvement; the weights are those of epoch 2, whose "
        f"{monitor.name} of {values[1]} is the best")


def test_without_patience_no_weights_are_picked_by_their_score(
        people: tuple[Instance, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = learn(people, epochs=3)
    scripted(monkeypatch, PCK, [0.9, 0.1, 0.1])
    validated, history = learn(people, epochs=3, validate_every=1)
    assert len(history) == 3
    assert equal(plain, validated)


@pytest.mark.parametrize("average", ["swa", "none"])
def test_other_averages_learn_as_well(people: tuple[Instance, ...], average: str) -> None:
    net, history = learn(people, val=16, epochs=12, average=average, validate_every=12)
    untrained, _ = learn(people, val=16, epochs=1, lr=1e-9)
    assert error(net, people) < 0.9 * error(untrained, people)
    assert history[-1]["loss"] < history[0]["loss"]


def error(net: nn.Module, people: tuple[Instance, ...]) -> float:
    """Mean squared error of the maps, of a network in evaluation mode: batch norm's statistics must fit."""
    dataset = KeypointDataset(people, RECIPE.contract(), None, 0)
    items = [dataset.view(0, index, (64, 64)) for index in range(len(people))]
    crops = dataset.collate(items)
    assert not isinstance(crops, Exception)
    batch = dataset.batch(crops)
    with torch.no_grad():
        return float((net(batch.inputs)[0] - batch.targets[0]).square().mean())


def test_a_step_that_fp16_leaves_out_does_not_move_the_average(
        people: tuple[Instance, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Average, "after_step", lambda self, net, step: steps.append(step))
    outcomes = iter([Outcome(1.0, moved) for moved in (False, True, False, True)])
    monkeypatch.setattr(Stepper, "step", lambda *_: next(outcomes))
    _, history = learn(people, epochs=2)
    assert steps == [0, 1]
    assert [entry["loss"] for entry in history] == [1.0, 1.0]


class Says(nn.Module):
    """A teacher that always says the same maps."""

    def __init__(self) -> None:
        super().__init__()
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        self.register_buffer("maps", torch.exp(-((x - 5) ** 2 + (y - 9) ** 2) / 8).expand(17, 16, 16))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.maps.expand(len(image), -1, -1, -1),)


def distance_to_teacher(net: nn.Module, people: tuple[Instance, ...]) -> float:
    inputs = torch.stack([torch.from_numpy(KeypointDataset(people, RECIPE.contract(), None, 0).sample(0, i)[0])
                          for i in range(len(people))])
    with torch.no_grad():
        return float((net(inputs)[0] - Says()(inputs)[0]).square().mean())


def test_a_teacher_is_heard_where_nothing_is_labelled(people: tuple[Instance, ...]) -> None:
    silent = tuple(replace(person, visibility=0 * person.visibility) for person in people)
    untaught, history = learn(silent, epochs=15, lr=1e-2)
    taught, _ = learn(silent, Teacher(Says(), 1.0), epochs=15, lr=1e-2)
    assert all(entry["loss"] == 0 for entry in history)
    assert distance_to_teacher(taught, people) < 0.5 * distance_to_teacher(untaught, people)


def test_a_teacher_without_weight_changes_nothing(people: tuple[Instance, ...]) -> None:
    assert equal(learn(people, epochs=2)[0], learn(people, Teacher(Says(), 0.0), epochs=2)[0])


def test_labels_have_no_say_under_a_teacher_of_full_weight(people: tuple[Instance, ...]) -> None:
    silent = tuple(replace(person, visibility=0 * person.visibility) for person in people)
    assert equal(learn(people, Teacher(Says(), 1.0), epochs=2)[0], learn(silent, Teacher(Says(), 1.0), epochs=2)[0])


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(people: tuple[Instance, ...]) -> None:
    _, whole = learn(people, epochs=1, lr=1e-12, batch=16)
    _, halves = learn(people, epochs=1, lr=1e-12, batch=8)
    assert halves[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.02)  # batch norm sees other statistics
