"""ShuffleNetV2: the paper's network, and a shuffle that is a transpose and stays one in the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from edgekp.errors import RecipeError
from edgekp.recipe import Model, Recipe
from tests import tiny
from tests.train.promises import dead_parameters, learnt_by_heart, lively, onnx_error
from train.losses import loss_named
from train.models import build, quantized, spec_of
from train.models.cost import count_macs, count_parameters
from train.models.shuffle import channel_shuffle, halves
from train.models.shufflenet_v2 import STAGES, DownUnit, ShuffleNetV2, Unit

SMALL = {"width": 0.5}
each_width = pytest.mark.parametrize("width", list(STAGES))


def asked_for(options: dict[str, Any], neck: str = "fpn", input_hw: tuple[int, int] = (64, 96)) -> Recipe:
    return tiny.recipe(input_hw, Model("shufflenet_v2", options=options, neck=neck, neck_options={"channels": 16}))


@pytest.mark.parametrize(("width", "last", "parameters", "macs"), [
    (0.5, 1024, 1_366_792, 40.5e6), (1.0, 1024, 2_278_604, 145e6),
    (1.5, 1024, 3_503_624, 296e6), (2.0, 2048, 7_393_996, 583e6)])
def test_it_is_the_published_network(width: float, last: int, parameters: int, macs: float) -> None:
    """Torchvision's own counts, less the last convolution and the classifier of 1000 classes.

    The MACs have three digits; the paper has 41, 146, 299 and 591 M, up to 1.4 % more, for it counts more than layers.
    """
    with torch.device("meta"):
        net = ShuffleNetV2(width)
    convolution, classifier = last * net.widths[-1], 1000 * last
    assert count_parameters(net) == parameters - (convolution + 2 * last) - (classifier + 1000)
    assert count_macs(net, (224, 224)) == pytest.approx(macs - 7 * 7 * convolution - classifier, abs=1e6)


@each_width
@torch.no_grad()
def test_widths_and_strides_are_those_of_the_maps(width: float) -> None:
    net = ShuffleNetV2(width).eval()
    maps = net(torch.zeros(1, 3, 64, 96))
    assert net.strides == (4, 8, 16, 32)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(net.widths, net.strides, strict=True)]


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_channel_shuffle_is_numpys_transpose_of_groups_and_their_channels(groups: int) -> None:
    x = torch.arange(2 * 12 * 3 * 5).reshape(2, 12, 3, 5)
    transposed = x.numpy().reshape(2, groups, 12 // groups, 3, 5).swapaxes(1, 2).reshape(2, 12, 3, 5)
    np.testing.assert_array_equal(channel_shuffle(x, groups).numpy(), transposed)


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_shuffle_into_as_many_groups_as_channels_were_in_one_undoes_it(groups: int) -> None:
    x = torch.randn(2, 12, 3, 5)
    assert not torch.equal(channel_shuffle(x, groups), x)
    assert torch.equal(channel_shuffle(channel_shuffle(x, groups), 12 // groups), x)


@torch.no_grad()
def test_a_unit_passes_one_half_and_filters_the_other() -> None:
    unit, x = lively(Unit(8)), torch.randn(1, 8, 6, 6)
    passing, filtered = halves(channel_shuffle(unit(x), 4))
    assert torch.equal(passing, x[:, :4])
    assert torch.equal(filtered, unit.body(x[:, 4:]))


@torch.no_grad()
def test_both_ways_of_a_unit_that_halves_the_map_read_every_channel() -> None:
    unit, x = lively(DownUnit(4, 12)), torch.randn(1, 4, 8, 8)
    before = halves(channel_shuffle(unit(x), 6))
    for channel in range(4):
        changed = x.clone()
        changed[:, channel] += torch.randn(8, 8)
        for one, other in zip(before, halves(channel_shuffle(unit(changed), 6)), strict=True):
            assert (one - other).abs().max() > 1e-3


def test_every_parameter_learns() -> None:
    assert dead_parameters(build(spec_of(asked_for(SMALL))), side=64) == []


def test_fx_traces_the_same_computation() -> None:
    net = lively(ShuffleNetV2(0.5))
    x = torch.randn(2, 3, 64, 96)
    for one, other in zip(fx.symbolic_trace(net)(x), net(x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("neck", ["fpn", "deconv"])
def test_onnx_computes_the_same(tmp_path: Path, neck: str) -> None:
    assert onnx_error(asked_for(SMALL, neck), tmp_path) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_shapes_are_constants_in_the_exported_file(precision: str) -> None:
    net, spec, contract = tiny.network(asked_for(SMALL, "deconv"))
    net = build(quantized(spec, ("head.output",))) if precision == "int8" else net
    nodes = {node.op_type for node in simplify(to_onnx(net, contract, 17)).graph.node}
    assert {"Reshape", "Transpose"} < nodes
    assert not nodes & {"Shape", "Gather", "Expand", "Range", "Cast"}


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(rng: np.random.Generator) -> None:
    recipe = asked_for(SMALL, input_hw=(64, 64))
    error, score = learnt_by_heart(recipe, loss_named("mse", recipe.contract()).of, rng)
    assert error < 0.15
    assert 0.2 < score < 1.3


@pytest.mark.parametrize(("options", "message"), [
    ({"width": 0.75}, "width: 0.75, expected one of 0.5, 1.0, 1.5, 2.0"),
    ({"width": "1.0"}, "width: '1.0', expected float"),
    ({"groups": 2}, "no option of backbone 'shufflenet_v2' 'groups'; known: width"),
])
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(options))


def test_a_width_may_be_written_as_a_whole_number() -> None:
    assert build(spec_of(asked_for({"width": 2}))).get_submodule("backbone").widths[1:] == STAGES[2.0]


def test_an_input_that_the_coarsest_map_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs multiples of 32"):
        spec_of(asked_for(SMALL, input_hw=(64, 80)))
