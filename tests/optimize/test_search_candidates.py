"""The space of a search, and the recipe of what it found: it loads, and asks for the candidate's network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.export.target import target_named
from edgekp.errors import RecipeError
from edgekp.recipe import CodecChoice, SecondTask
from edgekp.recipe_file import load_recipe
from edgekp.recipe_search import Search
from edgekp.recipe_steps import Distill, Prune, Qat, Quantize, Step
from optimize.search.best_recipe import recipe_of_candidate, to_toml
from optimize.search.candidates import (
    Candidate,
    Network,
    networks_of,
    own_network,
    pruning_of,
    require_searchable,
    rounds_of,
)
from optimize.search.fresh import structural_pruning
from tests import tiny
from train.models import spec_of

PRUNE, DISTILL, QUANTIZE, QAT = Prune("prune", 0.25), Distill("distill"), Quantize("quantize"), Qat("qat")
WIDE = tiny.recipe((128, 96), tiny.Model("hrnet_lite", options={"width": 24}), epochs=24)


def test_the_default_space_lies_around_the_recipe_and_its_own_network_comes_first() -> None:
    networks = networks_of(replace(WIDE, optimize=(PRUNE,)), 8)
    assert networks[0] == own_network(WIDE) == Network(24, (128, 96), 0.0)
    assert {network.width for network in networks} == {16, 24, 32}  # 12, 18, 24 and 30 in multiples of eight
    assert {network.input_hw for network in networks} == {(128, 96), (96, 64)}  # 72 lies between multiples of 16
    assert {network.macs_reduction for network in networks} == {0.0, 0.25}
    assert len(networks) == len(set(networks)) == 3 * 2 * 2
    assert rounds_of(WIDE) == (3, 6, 12)


def test_a_target_that_wants_more_channels_at_once_gets_them() -> None:
    assert {network.width for network in networks_of(WIDE, 16)} == {16, 24, 32}  # 12 and 18 become 16, 30 becomes 32


def test_the_recipes_own_network_is_there_even_if_the_space_does_not_name_it() -> None:
    search = Search(widths=(8.0,), input_sizes=((64, 64),), macs_reductions=(0.5,))
    networks = networks_of(replace(WIDE, search=search), 8)
    assert networks == [Network(24, (128, 96), 0.0), Network(8, (64, 64), 0.5)]
    assert [network.name for network in networks] == ["w24-128x96", "w8-64x64-pruned50"]


def test_a_multiplier_stays_one_and_a_backbone_without_width_keeps_its_own() -> None:
    thin = tiny.recipe((64, 64), tiny.Model("pfld", "multi_scale"), "regression")
    assert {network.width for network in networks_of(thin, 8)} == {0.5, 0.75, 1.0, 1.25}
    face = tiny.recipe((64, 64), tiny.FACENET, "regression")
    assert {network.width for network in networks_of(face, 8)} == {None}
    assert networks_of(face, 8)[0].name == "64x64"


def test_a_second_task_is_refused() -> None:
    second = SecondTask("face", WIDE.data, CodecChoice("heatmap"))
    with pytest.raises(RecipeError, match="has a second task, 'face'"):
        require_searchable(replace(WIDE, second=second))


@pytest.mark.parametrize(("steps", "share", "precision", "found"), [
    ((), 0.0, "fp32", []), ((), 0.5, "int8", ["prune", "quantize"]),
    ((PRUNE, DISTILL, QUANTIZE, QAT), 0.0, "fp32", ["distill"]),
    ((PRUNE, DISTILL, QUANTIZE, QAT), 0.5, "int8", ["prune", "distill", "quantize", "qat"]),
    ((DISTILL, PRUNE, DISTILL, PRUNE), 0.5, "int8", ["distill", "prune", "distill", "quantize"])])
def test_the_steps_of_what_was_found(steps: tuple[Step, ...], share: float, precision: str, found: list[str]) -> None:
    candidate = Candidate(Network(16, (96, 64), share), precision)
    recipe = recipe_of_candidate(replace(WIDE, optimize=steps), candidate, "cpu", "best")
    assert [step.method for step in recipe.optimize] == found
    assert [step.macs_reduction for step in recipe.optimize if isinstance(step, Prune)] == [share] * bool(share)
    assert spec_of(recipe) == spec_of(tiny.recipe((96, 64), tiny.Model("hrnet_lite", options={"width": 16})))


def test_pruning_for_a_search_has_the_share_of_the_macs_as_its_goal_on_the_target_searched() -> None:
    step = Prune("prune", latency_reduction=0.3, round_to=0, target="cpu", epochs=3)
    found = pruning_of(replace(WIDE, optimize=(step,)), Network(24, (128, 96), 0.25), "jetson")
    assert (found.goal, found.reduction, found.target, found.epochs) == ("macs", 0.25, "jetson", 3)


def test_a_fresh_network_is_pruned_in_the_very_multiple_of_the_target() -> None:
    recipe = replace(WIDE, optimize=(Prune("prune", round_to=0, importance="taylor", sensitivity=True),))
    network, cpu = Network(24, (128, 96), 0.25), target_named("cpu")
    found = [structural_pruning(recipe, network, replace(cpu, channel_multiple=multiple)) for multiple in (8, 32)]
    assert found == [Prune("prune", 0.25, round_to=8), Prune("prune", 0.25, round_to=32)]
    assert structural_pruning(recipe, own_network(recipe), cpu) is None


def test_every_recipe_comes_back_from_its_text(repository: Path, tmp_path: Path) -> None:
    paths = sorted((repository / "recipes").glob("*.toml"))
    overrides = ["search.widths=[8, 16.5]", "search.input_sizes=[[64, 32]]", "data.hint='ü \"q\" \\'"]
    assert paths
    for path in paths:
        recipe = load_recipe(path, overrides)
        (tmp_path / path.name).write_text(to_toml(recipe), encoding="utf-8")
        assert load_recipe(tmp_path / path.name) == recipe
