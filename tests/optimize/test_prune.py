"""Pruning: as many MACs as asked for, channels that hardware likes, and a network that can be rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe_steps import Prune
from optimize.prune import prune
from optimize.step import Context
from tests import tiny
from train.models import quantized
from train.models.channels import read_channels
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.models.cost import count_macs

POSE = tiny.recipe(model=tiny.Model("hrnet_lite", options={"width": 32, "branches": 3, "blocks": 1, "modules": 1}))
DEPTHWISE = tiny.recipe(model=tiny.Model("hrnet_lite", options={"width": 32, "branches": 2, "block": "depthwise"}))
FACE = tiny.recipe((32, 32), tiny.FACENET, "regression")
GDCONV = tiny.recipe((32, 32), tiny.Model("mobilefacenet", "gdconv", {"activation": "prelu"}), "regression")
NETWORKS = {"hrnet": POSE, "hrnet-depthwise": DEPTHWISE, "mobilefacenet": FACE, "gdconv-prelu": GDCONV}
each_network = pytest.mark.parametrize("recipe", NETWORKS.values(), ids=NETWORKS)
Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[[tiny.Recipe], Context]
ONCE = Prune("prune", epochs=1)


@pytest.mark.slow
@each_network
def test_the_macs_asked_for_are_reached_and_the_result_can_be_rebuilt(
        tmp_path: Path, recipe: tiny.Recipe, parent: Parent, context: MakeContext) -> None:
    before = parent(recipe)
    untouched = {name: tensor.clone() for name, tensor in before.net.state_dict().items()}
    result = prune(before, replace(ONCE, macs_reduction=0.3), context(recipe))
    reached = 1 - count_macs(result.net, recipe.input.input_hw) / count_macs(before.net, recipe.input.input_hw)
    assert reached == pytest.approx(0.3, abs=0.05)  # the smallest group of eight channels costs up to a tenth
    assert result.report["reduction_reached"] == pytest.approx(reached)
    assert all(torch.equal(untouched[name], tensor) for name, tensor in before.net.state_dict().items())
    for name, module in result.net.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.in_channels % 8 == 0 or name == "backbone.stem.0.0", name
            assert module.out_channels % 8 == 0 or name == "head.output", name
            assert module.groups in (1, module.in_channels), name
    folder = tmp_path / "pruned"
    folder.mkdir()
    save_checkpoint(folder, result.net, result.spec, before.contract)
    found = load_checkpoint(folder)
    x = torch.randn(2, 3, *recipe.input.input_hw)
    result.net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # sums in the order of memory
    with torch.no_grad():
        assert torch.equal(found.net(x)[0], result.net(x)[0])
        assert result.net(x)[0].shape == before.net(x)[0].shape
    assert read_channels(found.net) == read_channels(result.net)


@pytest.mark.parametrize("round_to", [4, 16])
def test_channels_stay_multiples_of_what_was_asked(parent: Parent, context: MakeContext, round_to: int) -> None:
    result = prune(parent(POSE), replace(ONCE, macs_reduction=0.4, round_to=round_to), context(POSE))
    widths = [m.out_channels for n, m in result.net.named_modules() if isinstance(m, nn.Conv2d) and n != "head.output"]
    assert all(width % round_to == 0 for width in widths)
    assert any(width % (2 * round_to) for width in widths)


def test_a_random_choice_is_another_and_always_the_same(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(POSE)
    found = {}
    for name in ("l2", "random", "again"):
        settings = replace(ONCE, importance="random" if name == "again" else name)  # type: ignore[arg-type]
        found[name] = prune(checkpoint, settings, context(POSE)).net
    weights = {name: net.get_submodule("head.output").weight for name, net in found.items()}
    same_widths = read_channels(found["l2"]) == read_channels(found["random"])
    assert not (same_widths and torch.allclose(weights["l2"], weights["random"], atol=1e-2))
    assert torch.equal(weights["random"], weights["again"])


def test_the_least_important_channels_leave(parent: Parent, context: MakeContext) -> None:
    """A few channels that are made to count nothing are the first to go."""
    checkpoint = parent(POSE)
    body = "backbone.stages.0.0.branches.0.0.body"
    first, norm = (checkpoint.net.get_submodule(f"{body}.0.{i}") for i in (0, 1))
    second = checkpoint.net.get_submodule(f"{body}.1.0")
    idle = torch.arange(0, 32, 2)
    with torch.no_grad():
        for tensor in (first.weight, norm.weight, norm.bias):
            tensor[idle] = 1e-8
        second.weight[:, idle] = 1e-8
    result = prune(checkpoint, replace(ONCE, macs_reduction=0.1), context(POSE))
    assert read_channels(result.net)[f"{body}.0.0"] == (32, 16, 1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_reduction_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(RecipeError, match="macs_reduction"):
        replace(ONCE, macs_reduction=share)


def test_pruning_after_quantization_is_refused(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(POSE)
    on_grid = replace(checkpoint, spec=quantized(checkpoint.spec, ("head.output",)))
    with pytest.raises(RecipeError, match="'prune' comes after 'quantize'; put quantize last"):
        prune(on_grid, ONCE, context(POSE))


def test_recovery_trains_on(parent: Parent, context: MakeContext) -> None:
    result = prune(parent(POSE), replace(ONCE, epochs=2), context(POSE))
    assert [entry["epoch"] for entry in result.history] == [1, 2]
    assert np.isfinite([entry["loss"] for entry in result.history]).all()
