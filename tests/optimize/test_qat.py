"""Training with rounding: scales follow weights, nothing is rounded twice, and no result is worse than its parent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe_steps import Qat, Quantize
from optimize import qat as step
from optimize.ptq import quantize_network, set_weight_scales
from optimize.qat import follow_weights, qat, training_loss
from optimize.step import Context
from tests import tiny
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.models.quantized import fake_quantizers, quant_convs

Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]
RECIPE = tiny.recipe()
LABELS_ALONE = Qat("qat", teacher="", epochs=1)


@pytest.fixture
def on_grid(parent: Parent, tmp_path: Path) -> Checkpoint:
    """A network on the int8 grid, its scales from noise."""
    checkpoint = parent(RECIPE)
    torch.manual_seed(0)
    found = quantize_network(checkpoint, Quantize("quantize", observer="minmax"), torch.randn(4, 3, 64, 64))
    folder = tmp_path / "int8"
    folder.mkdir()
    save_checkpoint(folder, found.net, found.spec, checkpoint.contract)
    return load_checkpoint(folder)


def peaks(net: nn.Module) -> torch.Tensor:
    """The largest level that each channel of each convolution uses."""
    return torch.cat([conv.largest_weights() / conv.weight_scale for conv in quant_convs(net).values()])


@torch.no_grad()
def test_scales_of_weights_follow_the_weights_in_every_copy_of_the_network(on_grid: Checkpoint) -> None:
    net = copy.deepcopy(on_grid.net)
    follow_weights(net)
    for learner in (net, copy.deepcopy(net)):  # training averages in a copy
        for conv in quant_convs(learner).values():
            conv.weight *= torch.linspace(0.5, 3.0, len(conv.weight)).view(-1, 1, 1, 1)
        learner(torch.zeros(1, 3, 64, 64))
        torch.testing.assert_close(peaks(learner), torch.full_like(peaks(learner), 127.0))


@pytest.mark.slow
def test_what_was_learnt_is_better_on_the_training_images_and_keeps_its_grid(
        on_grid: Checkpoint, context: MakeContext, tmp_path: Path) -> None:
    here = context(RECIPE)
    result = qat(on_grid, replace(LABELS_ALONE, epochs=10, lr=1e-2), here)
    before, after = (training_loss(net, on_grid, here, None) for net in (on_grid.net, result.net))
    assert result.report["improved"]
    assert after < 0.9 * before
    assert (before, after) == (result.report["loss_before"], result.report["loss_after"])
    torch.testing.assert_close(peaks(result.net), torch.full_like(peaks(result.net), 127.0))
    parents = fake_quantizers(on_grid.net)
    assert all(torch.equal(parents[name].scale, quantizer.scale)
               for name, quantizer in fake_quantizers(result.net).items())
    folder = tmp_path / "qat"
    folder.mkdir()
    save_checkpoint(folder, result.net, result.spec, on_grid.contract)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(folder).net(x)[0], result.net(x)[0])


def shout(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for tensor in net.get_submodule("head.output").parameters():
            tensor.mul_(10)
    return net


def test_a_network_that_training_made_worse_is_left_as_it_was(on_grid: Checkpoint, context: MakeContext,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: tensor.clone() for name, tensor in on_grid.net.state_dict().items()}
    monkeypatch.setattr(Context, "fine_tune", lambda _self, _parent, net, *_: (shout(net), []))
    result = qat(on_grid, LABELS_ALONE, context(RECIPE))
    assert not result.report["improved"]
    assert result.report["loss_after"] > result.report["loss_before"]
    assert all(torch.equal(before[name], tensor) for name, tensor in result.net.state_dict().items())


def test_scales_are_those_of_the_averaged_weights(on_grid: Checkpoint, context: MakeContext,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def averaged(_self: Context, _parent: Checkpoint, net: nn.Module, *_: Any) -> tuple[nn.Module, list[Any]]:
        with torch.no_grad():
            for conv in quant_convs(net).values():
                conv.weight *= 0.5  # and the average of the scales has not followed
        return net, []

    monkeypatch.setattr(Context, "fine_tune", averaged)
    monkeypatch.setattr(step, "training_loss", lambda net, *_: float(net is on_grid.net))
    net = qat(on_grid, LABELS_ALONE, context(RECIPE)).net
    torch.testing.assert_close(peaks(net), torch.full_like(peaks(net), 127.0))


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_it_trains_in_fp32_whatever_the_recipe_says(on_grid: Checkpoint, context: MakeContext, precision: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def note(self: Context, _parent: Checkpoint, net: nn.Module, *_: Any) -> tuple[nn.Module, list[Any]]:
        seen.append(self.recipe.train.precision)
        return net, []

    monkeypatch.setattr(Context, "fine_tune", note)
    qat(on_grid, LABELS_ALONE, context(tiny.recipe(precision=precision)))
    assert seen == ["fp32"]


def test_bf16_would_leave_the_grid() -> None:
    levels = torch.arange(-128, 128) * 0.0173  # any scale that is no power of two
    assert (levels.bfloat16().float() / 0.0173 - torch.arange(-128, 128)).abs().max() > 0.1


@pytest.mark.slow
def test_the_teacher_has_its_say_in_the_loss_that_is_compared(on_grid: Checkpoint, context: MakeContext) -> None:
    here = context(RECIPE)
    alone = qat(on_grid, LABELS_ALONE, here).report["loss_before"]
    taught = qat(on_grid, replace(LABELS_ALONE, teacher="float", weight=1.0), here).report["loss_before"]
    assert taught < 0.5 * alone  # of the float network, its parent differs by the rounding only


def test_a_network_in_float_is_refused(parent: Parent, context: MakeContext) -> None:
    with pytest.raises(RecipeError, match="'qat' comes before 'quantize'"):
        qat(parent(RECIPE), LABELS_ALONE, context(RECIPE))


def test_scales_of_weights_can_be_set_for_one_convolution(on_grid: Checkpoint) -> None:
    first, second = list(quant_convs(on_grid.net).values())[:2]
    with torch.no_grad():
        first.weight *= 2
        second.weight *= 2
    set_weight_scales(first)
    torch.testing.assert_close(peaks(first), torch.full_like(peaks(first), 127.0))
    assert peaks(second).max() > 200
