"""One optimizer step: parts that equal the whole, tasks that share it, fp16 that leaves it out, compiled networks."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from tests import tiny
from train.dataset import Batch
from train.objective import Objective
from train.precision import Precision, precision_for
from train.stepper import Lesson, Stepper
from train.task import Task, Teacher
from train.world import World

CPU = torch.device("cpu")
RECIPE = tiny.recipe()
FP32 = Precision(None, "cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return tiny.network(RECIPE)[0]  # batch norm in evaluation mode: its statistics would be those of a part


def random_batch(seed: int = 0, count: int = 8) -> Batch:
    """Of uneven weight: an instance without a label, and others with few."""
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(count, 17, generator=generator) < torch.linspace(0, 1, count)[:, None]).float()
    return Batch(torch.randn(count, 3, 64, 64, generator=generator),
                 (torch.rand(count, 17, 16, 16, generator=generator),), weight)


def stepper_of(net: nn.Module, precision: Precision = FP32, world: World | None = None, lr: float = 1e-2,
               **train: Any) -> Stepper:
    settings = replace(RECIPE.train, clip_norm=1e9, **train)
    return Stepper(net, settings, torch.optim.SGD(net.parameters(), lr), precision, CPU, world or World())


def objective(teacher: Teacher | None = None, precision: Precision = FP32) -> Objective:
    return Objective(Task("test", RECIPE.contract(), [], [], RECIPE.train, tiny.STILL, teacher), precision)


class OfTwoTasks(nn.Module):
    """A network that both tasks share to the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, *images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], ...]:
        return tuple(self.net(image) for image in images)


class OneLayer(nn.Module):
    """The least network of heatmaps: a whole one takes two minutes to compile."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 17, 4, stride=4)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.conv(image),)


def gradients(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


def loss_and_gradients(lessons: list[Lesson], **train: Any) -> tuple[float, list[torch.Tensor]]:
    net = network() if len(lessons) == 1 else OfTwoTasks()
    outcome = stepper_of(net, **train).step(lessons, 1e-2)
    assert outcome.moved
    return outcome.loss, gradients(net)


def assert_close(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """To the rounding of fp32 sums in another order: 1e-4 of each tensor's largest gradient."""
    assert len(mine) == len(theirs) > 10
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(other.abs().max()) + 1e-7)


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole(parts: int, taught: bool) -> None:
    teacher = Teacher(copy.deepcopy(network()).requires_grad_(False), 0.4) if taught else None
    lesson = Lesson(random_batch(), objective(teacher))
    whole_loss, whole = loss_and_gradients([lesson])
    loss, in_parts = loss_and_gradients([lesson], accumulate=parts)
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert_close(in_parts, whole)


def test_tasks_share_a_step_by_their_weights() -> None:
    one, other = random_batch(1), random_batch(2)
    loss, both = loss_and_gradients([Lesson(one, objective(), 0.7), Lesson(other, objective(), 0.3)], accumulate=2)
    one_loss, of_one = loss_and_gradients([Lesson(one, objective())])
    other_loss, of_other = loss_and_gradients([Lesson(other, objective())])
    assert loss == pytest.approx(0.7 * one_loss + 0.3 * other_loss, rel=1e-5)
    assert_close(both, [0.7 * mine + 0.3 * theirs for mine, theirs in zip(of_one, of_other, strict=True)])


def test_gradients_are_exchanged_once_a_step() -> None:
    passes: list[str] = []

    class Listener(World):
        """Notes each backward pass, and whether it would be kept from the others."""

        alone = False

        def joined(self, net: nn.Module) -> nn.Module:
            next(net.parameters()).register_hook(lambda _: passes.append("alone" if self.alone else "with all"))
            return net

        @contextmanager
        def unsynced(self, joined: nn.Module) -> Iterator[None]:
            self.alone = True
            yield
            self.alone = False

    stepper_of(network(), world=Listener(), accumulate=4).step([Lesson(random_batch(), objective())], 1e-2)
    assert passes == ["alone"] * 3 + ["with all"]


@pytest.mark.parametrize(("train", "size"), [({"batch": 8, "accumulate": 3}, 1), ({"batch": 8, "accumulate": 8}, 1),
                                             ({"batch": 9}, 2), ({"batch": 8, "accumulate": 2}, 4)])
def test_a_batch_that_does_not_divide_is_refused(train: dict[str, int], size: int) -> None:
    world = World()
    world.size = size
    with pytest.raises(RecipeError, match=r"train\.batch: \d+, expected a multiple of \d+ and at least \d+ \(train\."):
        stepper_of(network(), world=world, **train)


def test_a_batch_of_one_is_fine_alone() -> None:
    stepper_of(network(), batch=1)


def test_fp16_is_refused_without_a_gpu() -> None:
    with pytest.raises(RecipeError, match='"fp16" is for NVIDIA GPUs, this trains on the cpu; use "auto"'):
        precision_for(replace(RECIPE.train, precision="fp16"), CPU)


def fp16(scale: float) -> Precision:
    precision = Precision(torch.float16, "cpu")
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return precision


def test_an_overflow_of_fp16_leaves_the_step_out_and_lowers_the_scale() -> None:
    net, precision = network(), fp16(2.0 ** 80)
    before = copy.deepcopy(net.state_dict())
    outcome = stepper_of(net, precision).step([Lesson(random_batch(), objective(precision=precision))], 1e-2)
    assert not outcome.moved
    assert 0 < outcome.loss < float("inf")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert precision.scaler.get_scale() == 2.0 ** 79


def test_fp16_steps_as_fp32_does_where_nothing_overflows() -> None:
    half, full, precision = network(), network(), fp16(4.0)
    batch = random_batch()
    mine = stepper_of(half, precision, accumulate=2).step([Lesson(batch, objective(precision=precision))], 1e-6)
    theirs = stepper_of(full).step([Lesson(batch, objective())], 1e-6)
    assert mine.moved
    assert mine.loss == pytest.approx(theirs.loss, rel=0.01)  # fp16 has 11 bits, and there are ten layers
    for one, other in zip(gradients(half), gradients(full), strict=True):
        assert float((one - other).norm()) <= 0.05 * float(other.norm()) + 1e-3


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RecipeError, match=r"train\.compile: .*'no-such-compiler' is not there; install it"):
        stepper_of(network(), compile=True)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_loss_under_the_same_names() -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain = OneLayer()
    compiled, lessons = copy.deepcopy(plain), [Lesson(random_batch(), objective())]
    stepper = stepper_of(compiled, compile=True)
    losses = [stepper.step(lessons, 1e-3).loss for _ in range(2)]
    assert losses == pytest.approx([stepper_of(plain).step(lessons, 1e-3).loss for _ in range(2)], rel=1e-4)
    assert losses[1] < losses[0]
    assert list(compiled.state_dict()) == ["conv.weight", "conv.bias"]
