"""The CPM head: each stage reads the maps before it, all are supervised, and the last one is what is said."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError
from edgekp.recipe import Model
from tests import tiny
from tests.train.promises import dead_parameters, learnt_by_heart, lively, onnx_error, translated_maps
from train.losses import mse
from train.models import build, spec_of
from train.models.cpm import CPMHead
from train.models.heads import HeatmapHead
from train.objective import Objective, Part
from train.precision import precision_for
from train.task import Task

BACKBONE = {"width": 16, "branches": 2, "blocks": 1, "modules": 1}
FEATURE = torch.Generator().manual_seed(0)


def asked_for(input_hw: tuple[int, int] = (64, 64), **options: int) -> tiny.Recipe:
    return tiny.recipe(input_hw, Model("hrnet_lite", "cpm", BACKBONE, head_options=options))


def head(stages: int, channels: int = 16) -> CPMHead:
    made = CPMHead((16,), (4,), 5, (64, 64), stages=stages, channels=channels)
    lively(made)
    return made


def feature(side: int = 16) -> tuple[Tensor, ...]:
    return (torch.randn(2, 16, side, side, generator=FEATURE),)


def all_stages(made: CPMHead, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What the stages say in training, with the batch norms of evaluation."""
    made.training = True
    said = made(features)
    made.training = False
    return tuple(said)


@pytest.mark.parametrize("stages", [2, 3, 6])
@torch.no_grad()
def test_evaluation_says_what_the_last_stage_says_in_training(stages: int) -> None:
    made, seen = head(stages), feature()
    said = all_stages(made, seen)
    assert len(said) == stages
    last, = made(seen)
    assert torch.equal(last, said[-1])
    assert all((one - other).abs().max() > 1e-2 for one, other in pairwise(said))


@pytest.mark.parametrize("changed", [0, 1, 2])
@torch.no_grad()
def test_a_later_stage_sees_the_maps_of_the_stage_before_and_no_earlier_stage_does(changed: int) -> None:
    made, seen = head(4), feature()
    before = all_stages(made, seen)
    says = made.output["says"]
    assert isinstance(says, nn.ModuleList)
    bias = says[changed].bias
    assert isinstance(bias, Tensor)
    bias += 1.0
    moved = [float((one - other).abs().max()) for one, other in zip(all_stages(made, seen), before, strict=True)]
    assert moved[:changed] == [0.0] * changed
    assert moved[changed] == pytest.approx(1.0, abs=1e-4)
    assert min(moved[changed + 1:]) > 1e-2


@torch.no_grad()
def test_a_stage_sees_nineteen_cells_of_the_maps_before_it() -> None:
    """Three 7 x 7 kernels: what changes 9 cells away is seen, what changes 10 cells away is not."""
    made, (seen,) = head(2), feature(32)
    read = made.output["reads"].get_submodule("0")
    before, _ = made.later[0](seen, read(torch.zeros(2, 5, 32, 32))), None
    for cells, is_seen in ((9, True), (10, False)):
        maps = torch.zeros(2, 5, 32, 32)
        maps[:, :, 16, 16 + cells] = 10.0
        after = made.later[0](seen, read(maps))
        assert bool((after - before)[:, :, 16, 16].any()) == is_seen


@torch.no_grad()
def test_a_translated_input_translates_the_maps(rng: np.random.Generator) -> None:
    net = lively(build(spec_of(asked_for((320, 320), stages=2, channels=16))))
    (before, after), = translated_maps(net, rng, 320, 8, (136, 176))
    assert before.std() > 0.05
    np.testing.assert_allclose(after, before, atol=1e-4 * float(np.abs(before).max()))


def test_every_parameter_gets_a_gradient() -> None:
    assert dead_parameters(build(spec_of(asked_for(stages=3))), side=64) == []


@torch.no_grad()
def test_the_loss_is_the_mean_of_the_losses_of_the_stages() -> None:
    contract = asked_for().contract()
    task = Task("test", contract, [], [], asked_for().train, tiny.STILL)
    said = tuple(torch.randn(2, 17, 16, 16) for _ in range(3))
    goal, weight = torch.randn(2, 17, 16, 16), torch.ones(2, 17)
    part = Part(torch.zeros(2, 3, 64, 64), (goal,), weight, weight.sum(), torch.tensor(weight.numel()))
    objective = Objective(task, precision_for(task.settings, torch.device("cpu")))
    alone = [objective((one,), part) for one in said]
    torch.testing.assert_close(objective(said, part), torch.stack(alone).mean())
    assert min(alone) < 0.999 * max(alone)


def test_the_onnx_file_says_what_the_network_says(tmp_path: Path) -> None:
    assert onnx_error(asked_for(stages=3, channels=32), tmp_path) < 1e-4


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(rng: np.random.Generator) -> None:
    error, score = learnt_by_heart(asked_for(), mse, rng)
    assert error < 0.15
    assert 0.2 < score < 1.3


def test_it_is_no_codecs_first_choice() -> None:
    assert isinstance(build(spec_of(tiny.recipe())).head, HeatmapHead)


@pytest.mark.parametrize(("options", "message"), [
    ({"stages": 1}, r"stages 1, expected 2 to 6"), ({"stages": 7}, r"stages 7, expected 2 to 6"),
    ({"channels": 12}, r"channels 12, expected a multiple of 8"), ({"channels": 0}, "channels 0"),
    ({"stage": 3}, "no option of head 'cpm' 'stage'; did you mean 'stages'")])
def test_what_it_cannot_be_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(**options))
