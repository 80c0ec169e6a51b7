"""MobileNetV3: the paper's two networks, their thinner sisters, and ReLU in place of hard-swish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgekp.errors import RecipeError
from edgekp.recipe import Model, Recipe
from tests import tiny
from tests.train.promises import dead_parameters, learnt_by_heart, lively, onnx_error, translated_maps
from train.losses import loss_named
from train.models import build, spec_of
from train.models.cost import count_macs, count_parameters
from train.models.mobilenet_v3 import LAYOUTS, HardSE, InvertedResidual, MobileNetV3
from train.models.width import scaled

each_size = pytest.mark.parametrize("size", list(LAYOUTS))


def asked_for(options: dict[str, Any], neck: str = "fpn", input_hw: tuple[int, int] = (64, 96)) -> Recipe:
    return tiny.recipe(input_hw, Model("mobilenet_v3", options=options, neck=neck, neck_options={"channels": 16}))


@pytest.mark.parametrize(("size", "last", "hidden", "parameters", "macs"), [
    ("large", 960, 1280, 5_483_032, 216.6e6), ("small", 576, 1024, 2_542_856, 56.5e6)])
def test_at_width_1_it_is_the_published_network(
        size: Any, last: int, hidden: int, parameters: int, macs: float) -> None:
    """Torchvision's own counts (the paper's table 3: 5.4 and 2.5 M, 219 and 56 M), less the last 1 x 1 convolution
    and the classifier's two layers."""
    with torch.device("meta"):
        net = MobileNetV3(size)
    convolution, classifier = net.widths[-1] * last, last * hidden + hidden * 1000
    assert count_parameters(net) == parameters - (convolution + 2 * last) - (classifier + hidden + 1000)
    assert count_macs(net, (224, 224)) == pytest.approx(macs - 7 * 7 * convolution - classifier, rel=1e-3)


@each_size
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 1.25])
@torch.no_grad()
def test_widths_and_strides_are_those_of_the_maps(size: Any, width: float) -> None:
    net = MobileNetV3(size, width).eval()
    maps = net(torch.zeros(1, 3, 64, 96))
    assert net.strides == (4, 8, 16, 32)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(net.widths, net.strides, strict=True)]


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 1.25, 2.0])
@pytest.mark.parametrize("channels", [16, 24, 40, 72, 112, 960])
def test_scaled_channels_are_the_nearest_multiple_of_8_that_keeps_nine_tenths(channels: int, width: float) -> None:
    found, exact = scaled(channels, width), width * channels
    assert found % 8 == 0
    assert found >= max(8, 0.9 * exact)
    assert abs(found - exact) <= 4 or found == 8 or found - 8 < 0.9 * exact  # else the nearest


def test_every_channel_of_a_thin_network_is_a_multiple_of_8() -> None:
    convs = [module for module in MobileNetV3("large", 0.35).modules() if isinstance(module, nn.Conv2d)]
    assert {conv.out_channels % 8 for conv in convs} == {0}


@torch.no_grad()
def test_the_gate_of_squeeze_and_excitation_equals_the_papers_formula() -> None:
    attend, x = lively(HardSE(32)), 3 * torch.randn(2, 32, 5, 7)
    squeeze, _, excite, _ = attend.gate
    assert squeeze.out_channels == 32 // 4
    hidden = np.maximum(x.mean((2, 3)).numpy() @ squeeze.weight[..., 0, 0].numpy().T + squeeze.bias.numpy(), 0)
    logits = hidden @ excite.weight[..., 0, 0].numpy().T + excite.bias.numpy()
    gates = np.clip(logits + 3, 0, 6) / 6
    np.testing.assert_allclose(attend(x).numpy(), x.numpy() * gates[..., None, None], atol=1e-5)
    assert gates.min() == 0  # some are shut
    assert 0.5 < gates.max() < 1


def test_squeeze_and_excitation_weights_the_expanded_channels() -> None:
    gates = {block.body[-2].gate[0].in_channels: block.body[-1][0].in_channels
             for block in MobileNetV3("large").modules() if isinstance(block, InvertedResidual)
             and isinstance(block.body[-2], HardSE)}
    assert set(gates) == {72, 120, 480, 672, 960}  # the hidden channels of table 1's rows with SE
    assert all(weighted == projected for weighted, projected in gates.items())


@each_size
def test_relu_stands_where_hard_swish_did(size: Any) -> None:
    kinds = {}
    for activation in ("hardswish", "relu"):
        net = MobileNetV3(size, activation=activation)  # type: ignore[arg-type]
        kinds[activation] = [type(m) for m in net.modules() if isinstance(m, (nn.ReLU, nn.Hardswish))]
    assert set(kinds["relu"]) == {nn.ReLU}
    assert len(kinds["relu"]) == len(kinds["hardswish"])
    hard_rows = [row for row in LAYOUTS[size] if row.hard]
    assert kinds["hardswish"].count(nn.Hardswish) == 1 + 2 * len(hard_rows)  # the stem's, and two a block


@torch.no_grad()
def test_a_translated_input_translates_the_finest_map(rng: np.random.Generator) -> None:
    """That of stride 4, by cells of the coarsest; it comes before the first gate, which looks at a whole map."""
    net = lively(MobileNetV3("large"))
    (before, after), *_ = translated_maps(net, rng, 192, 32, (64, 96))
    assert before.std() > 0.1
    np.testing.assert_allclose(after, before, atol=1e-4 * float(np.abs(before).max()))


@pytest.mark.parametrize("options", [{}, {"size": "large", "width": 0.5, "activation": "relu"}])
def test_every_parameter_learns(options: dict[str, Any]) -> None:
    assert dead_parameters(build(spec_of(asked_for(options))), side=96) == []


@each_size
def test_fx_traces_the_same_computation(size: Any) -> None:
    net = lively(MobileNetV3(size, 0.5))
    x = torch.randn(2, 3, 64, 96)
    for one, other in zip(fx.symbolic_trace(net)(x), net(x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("options", "neck"), [
    ({}, "fpn"), ({"activation": "relu"}, "deconv"), ({"size": "large", "width": 0.5}, "fpn")])
def test_onnx_computes_the_same(tmp_path: Path, options: dict[str, Any], neck: str) -> None:
    assert onnx_error(asked_for(options, neck), tmp_path) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"size": "large", "width": 0.5, "activation": "relu"}])
def test_eight_samples_are_learnt_by_heart(options: dict[str, Any], rng: np.random.Generator) -> None:
    recipe = asked_for(options, input_hw=(64, 64))
    error, score = learnt_by_heart(recipe, loss_named("mse", recipe.contract()).of, rng)
    assert error < 0.15
    assert 0.2 < score < 1.3


@pytest.mark.parametrize(("options", "message"), [
    ({"size": "medium"}, r"size 'medium', expected large or small"),
    ({"activation": "swish"}, r"activation 'swish', expected hardswish or relu"),
    ({"width": 0.0}, "width: 0.0, expected a multiplier from 0.25 to 2"),
    ({"width": 32}, "width: 32, expected a multiplier from 0.25 to 2"),
    ({"width": "1"}, "width: '1', expected float"),
    ({"depth": 18}, "no option of backbone 'mobilenet_v3' 'depth'; .*known: size, width, activation"),
])
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(options))


def test_an_input_that_the_coarsest_map_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs multiples of 32"):
        spec_of(asked_for({}, input_hw=(64, 80)))
