"""The scan: a group that pruning breaks is found on validation data, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe_steps import Prune
from edgekp.sample import Instance
from optimize import channel_sensitivity
from optimize.channel_sensitivity import Look, Scan, scan, spread
from optimize.importance import scores_of
from optimize.prune import prune
from optimize.step import Context
from tests import tiny
from train.dataset import Pool
from train.models.channels import read_channels
from train.models.checkpoint import Checkpoint

POSE = tiny.recipe(model=tiny.Model("hrnet_lite", options={"width": 16, "branches": 2, "blocks": 1, "modules": 1}))
BODY = "backbone.stages.0.0.branches.0.0.body"
BROKEN = f"{BODY}.0.0"
Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]


@pytest.fixture
def fragile(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A network with a group that magnitudes would thin out first, and that fails on validation data without it."""
    checkpoint = parent(POSE)
    first, norm, second = (checkpoint.net.get_submodule(f"{BODY}.{name}") for name in ("0.0", "0.1", "1.0"))
    with torch.no_grad():
        for tensor in (first.weight, norm.weight, norm.bias, second.weight.transpose(0, 1)):
            tensor[:8] *= 0.5

    def metrics(net: nn.Module, *_: object) -> dict[str, float]:
        channels = read_channels(net)
        narrow = sum(width < 16 for _, width, _ in channels.values())
        return {"pck@0.2": 0.9 - 0.5 * (channels[BROKEN][1] < 16) - 0.001 * narrow}

    monkeypatch.setattr(channel_sensitivity, "measure", metrics)
    return checkpoint


@pytest.fixture
def looking(context: MakeContext, people: tuple[Instance, ...]) -> Context:
    return replace(context(POSE), val=[Pool(people[16:24])])


def test_a_group_that_pruning_breaks_is_found(fragile: Checkpoint, looking: Context) -> None:
    found = scan(fragile, scores_of(fragile, "l2", looking), 8, looking)
    hurts = found.hurts()
    assert max(hurts, key=hurts.__getitem__) == BROKEN
    assert all(look.kept % 8 == 0 and 0 < look.kept < look.channels for look in found.looks)


def test_a_group_that_pruning_breaks_is_protected(fragile: Checkpoint, looking: Context) -> None:
    settings = Prune("prune", macs_reduction=0.4, epochs=1)
    left = {}
    for sensitivity in (False, True):
        result = prune(fragile, replace(settings, sensitivity=sensitivity), looking)
        left[sensitivity] = read_channels(result.net)[BROKEN][1]
        assert (result.report["sensitivity"] is not None) == sensitivity
    assert left[False] < left[True] == 16


def test_groups_that_hurt_are_worth_more_and_those_that_gain_are_not_worth_less() -> None:
    looks = [Look("a", 32, 16, {}, 0.3), Look("b", 32, 16, {}, -0.1), Look("c", 32, 24, {}, 0.0)]
    found = Scan("pck@0.2", 8, {}, looks)
    assert found.hurts() == {"a": 0.6, "b": 0.0, "c": 0.0}
    weighted = found.weighted({name: torch.ones(2) for name in "abcd"})
    assert {name: float(worth[0]) for name, worth in weighted.items()} == {
        "a": pytest.approx(4), "b": 1, "c": 1, "d": 1}  # 1 + 0.6 / the mean of 0.2
    harmless = replace(found, looks=looks[1:])
    assert float(harmless.weighted({"b": torch.ones(1)})["b"]) == 1


def test_an_error_that_grows_is_a_drop(parent: Parent, looking: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([0.1, *(0.1 + 0.01 * i for i in range(1, 100))])
    monkeypatch.setattr(channel_sensitivity, "measure", lambda *_: {"error": next(errors)})
    checkpoint, recipe = parent(POSE), replace(looking.recipe, eval=replace(looking.recipe.eval, metric="nme"))
    found = scan(checkpoint, scores_of(checkpoint, "l2", looking), 8, replace(looking, recipe=recipe))
    assert [look.drop for look in found.looks] == pytest.approx([0.01 * (i + 1) for i in range(len(found.looks))])


def test_the_samples_are_spread_over_all_sets(people: tuple[Instance, ...]) -> None:
    first, second = spread([Pool(people[:120]), Pool(people[120:160])], 40)
    assert (first.size, second.size) == (30, 10)
    assert first.instances[0] == people[0]
    assert first.instances[-1] == people[119]
    assert [pool.size for pool in spread([Pool(people[:8]), Pool(())], 40)] == [8, 0]


def test_real_validation_data_is_measured(parent: Parent, looking: Context) -> None:
    report = prune(parent(POSE), Prune("prune", sensitivity=True, epochs=1), looking).report["sensitivity"]
    assert report["samples"] == 8
    assert report["unpruned"].keys() == {"pck@0.2", "error"}
    assert {look["group"] for look in report["looks"]} == set(report["hurt"])


def test_without_validation_data_a_scan_is_refused(parent: Parent, context: MakeContext) -> None:
    with pytest.raises(RecipeError, match="sensitivity: the recipe has no validation data"):
        prune(parent(POSE), Prune("prune", sensitivity=True, epochs=1), context(POSE))
