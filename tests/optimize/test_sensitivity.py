"""Sensitivity: a layer that is broken on purpose is found, and the numbers are in the units that they claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.preprocess import crop_affine, invert, transform
from edgekp.recipe_steps import Quantize
from edgekp.sample import Instance
from edgekp.similarity import oks
from optimize.calibration_set import calibration_inputs
from optimize.ptq import quantize_network
from optimize.sensitivity import IN_DETAIL, LayerCost, Probe, choose_probe, layer_costs, layers_of
from tests import tiny
from train.models.checkpoint import Checkpoint
from train.models.quantized import fake_quantizers, quant_convs

Parent = Callable[[tiny.Recipe], Checkpoint]
RECIPE = tiny.recipe()
SETTINGS = Quantize("quantize", images=128)
LOUD, NORM, READER = (f"backbone.stages.0.0.branches.0.0.body.{part}" for part in ("0.0", "0.1", "1.0"))


@pytest.fixture
def float_net(parent: Parent) -> Checkpoint:
    torch.manual_seed(0)
    return parent(RECIPE)


@pytest.fixture
def probe(people: tuple[Instance, ...]) -> Probe:
    return choose_probe(people, people[:128], RECIPE.contract())


@pytest.fixture
def on_grid(people: tuple[Instance, ...]) -> Callable[[Checkpoint], nn.Module]:
    inputs = calibration_inputs(list(people[:32]), RECIPE.contract())
    return lambda checkpoint: quantize_network(checkpoint, SETTINGS, inputs).net


@torch.no_grad()
def make_loud(net: nn.Module, factor: float = 100.0) -> None:
    """One channel ``factor`` times as large and its reader's weights as much smaller: the network says the same."""
    norm, reader = net.get_submodule(NORM), net.get_submodule(READER)
    norm.weight[0] *= factor  # type: ignore[index,operator]
    norm.bias[0] *= factor  # type: ignore[index,operator]
    reader.weight[:, 0] /= factor  # type: ignore[index,operator]


def by_layer(costs: list[LayerCost]) -> dict[str, LayerCost]:
    return {cost.layer: cost for cost in costs}


def test_a_channel_a_hundred_times_as_loud_as_the_others_is_found(
        float_net: Checkpoint, probe: Probe, on_grid: Callable[[Checkpoint], nn.Module]) -> None:
    make_loud(float_net.net)
    worst, second, *_ = layer_costs(on_grid(float_net), probe)
    assert worst.layer == LOUD
    assert worst.error_px > 2 * second.error_px
    assert worst.activations_px is not None
    assert worst.weights_px is not None
    assert worst.activations_px > 5 * worst.weights_px  # it is the activation's one scale, not the weights'


@pytest.mark.parametrize("layer", ["backbone.stem.1.0", "add_1", "image"])
def test_an_activation_with_a_wrong_scale_is_found(layer: str, float_net: Checkpoint, probe: Probe,
                                                   on_grid: Callable[[Checkpoint], nn.Module]) -> None:
    net = on_grid(float_net)
    next(one for one in fake_quantizers(net).values() if one.layer == layer).scale *= 40
    worst, second, *_ = layer_costs(net, probe)
    assert worst.layer == layer
    assert worst.error_px > second.error_px
    assert worst.sqnr_db < second.sqnr_db


def test_weights_with_a_wrong_scale_are_found(float_net: Checkpoint, probe: Probe,
                                              on_grid: Callable[[Checkpoint], nn.Module]) -> None:
    net = on_grid(float_net)
    quant_convs(net)["backbone.stem.1.0"].weight_scale.mul_(40)
    worst = layer_costs(net, probe)[0]
    assert worst.layer == "backbone.stem.1.0"
    assert worst.weights_px == pytest.approx(worst.error_px, rel=0.3)
    assert worst.activations_px is not None
    assert worst.activations_px < 0.3 * worst.error_px


def test_every_layer_has_a_place_and_the_worst_are_told_in_detail(
        float_net: Checkpoint, probe: Probe, on_grid: Callable[[Checkpoint], nn.Module]) -> None:
    net = on_grid(float_net)
    costs = layer_costs(net, probe)
    assert len(by_layer(costs)) == len(costs) == len(layers_of(net))
    assert sum(cost.has_weights for cost in costs) == len(quant_convs(net))
    assert sum(cost.has_activation for cost in costs) == len(fake_quantizers(net))
    assert [cost.error_px for cost in costs] == sorted((cost.error_px for cost in costs), reverse=True)
    assert all(cost.activations_px is not None for cost in costs[:IN_DETAIL])
    assert all(cost.activations_px is None for cost in costs[IN_DETAIL:])


def test_the_network_rounds_as_before_after_it_was_measured(
        float_net: Checkpoint, probe: Probe, on_grid: Callable[[Checkpoint], nn.Module]) -> None:
    net = on_grid(float_net)
    with torch.no_grad():
        before = net(probe.inputs)[0]
        layer_costs(net, probe)
        assert torch.equal(net(probe.inputs)[0], before)


def test_a_layer_on_a_fine_grid_costs_nothing(float_net: Checkpoint, probe: Probe,
                                              people: tuple[Instance, ...]) -> None:
    inputs = calibration_inputs(list(people[:32]), RECIPE.contract())
    fine = quantize_network(float_net, replace(SETTINGS, int16=("add",)), inputs).net
    costs = by_layer(layer_costs(fine, probe))
    assert costs["add"].sqnr_db > costs["add_1"].sqnr_db + 30  # 8 bits more are 48 dB; the other sum sees other values


def test_the_probe_measures_oks_as_in_the_image(people: tuple[Instance, ...]) -> None:
    """The similarity of keypoints in the input's pixels is that of the same keypoints in the image."""
    contract, few = RECIPE.contract(), people[:5]
    spec = contract.input
    probe = choose_probe(few, [], contract)
    guess = probe.true_xy + np.random.default_rng(0).normal(0, 3, probe.true_xy.shape)
    of_image = []
    for one, xy in zip(few, guess, strict=True):
        to_input = crop_affine(one.bbox_xywh, spec.input_hw, spec.padding, align=spec.align)
        of_image.append(oks(transform(xy, invert(to_input)), one.keypoints_xy, one.visibility > 0,
                            np.array(one.area_px2), contract.skeleton.sigma_array))
    assert probe.oks(guess) == pytest.approx(float(np.mean(of_image)), abs=1e-6)
    assert 0.05 < probe.oks(guess) < 0.95


def test_the_probe_holds_nobody_whom_calibration_has_seen(people: tuple[Instance, ...]) -> None:
    probe = choose_probe(people, people[::2], RECIPE.contract())
    unseen = choose_probe(people[1::2], [], RECIPE.contract())
    assert len(probe.true_xy) == 64
    np.testing.assert_array_equal(probe.true_xy, unseen.true_xy)


def test_where_calibration_has_seen_everybody_the_probe_takes_of_them(people: tuple[Instance, ...]) -> None:
    assert len(choose_probe(people[:20], people[:20], RECIPE.contract()).inputs) == 20
