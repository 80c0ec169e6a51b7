"""Bias correction: layer by layer, what rounding adds on average is taken out again."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, fx, nn

from optimize.bias_correction import IMAGES, correct_biases
from optimize.ptq import set_weight_scales
from tests import tiny
from train.models.quantized import (
    QuantConv,
    QuantizationSpec,
    fake_quantizers,
    insert_fake_quantizers,
    quant_convs,
    set_enabled,
)

POSE = tiny.recipe()
CBAM = tiny.recipe(model=tiny.Model("hrnet_lite", options={**tiny.HRNET.options, "attention": "cbam"}))


def coarse(recipe: tiny.Recipe) -> tuple[fx.GraphModule, fx.GraphModule, Tensor]:
    """A network with steps so coarse that means move, the same in float, and inputs."""
    torch.manual_seed(0)
    net = insert_fake_quantizers(tiny.network(recipe)[0], QuantizationSpec(("head.output",)))
    reference = copy.deepcopy(net)
    set_enabled(reference, weights=False, activations=False)
    set_weight_scales(net)
    for quantizer in fake_quantizers(net).values():
        quantizer.scale.fill_(0.05)
    for conv in quant_convs(net).values():
        conv.weight_scale.mul_(8)
    return net, reference, 0.5 + torch.rand(16, 3, 64, 64)


@torch.no_grad()
def added_means(net: fx.GraphModule, x: Tensor) -> dict[str, Tensor]:
    """What rounded weights add to the mean of each channel of each layer; the biases cancel."""
    found: dict[str, Tensor] = {}

    def compare(name: str, layer: QuantConv, inputs: tuple[Tensor], out: Tensor) -> None:
        exact = nn.functional.conv2d(inputs[0], layer.weight, layer.bias, layer.stride, layer.padding,  # type: ignore[arg-type]
                                     layer.dilation, layer.groups)
        found[name] = (out - exact).mean((0, 2, 3))

    hooks = [conv.register_forward_hook(partial(compare, name)) for name, conv in quant_convs(net).items()]
    net(x)
    for hook in hooks:
        hook.remove()
    return found


def test_the_bias_takes_back_what_rounded_weights_add_on_average() -> None:
    net, _, x = coarse(POSE)
    before = {name: conv.bias.clone() for name, conv in quant_convs(net).items() if conv.bias is not None}
    corrections = correct_biases(net, x)
    assert corrections.keys() == before.keys()
    for name, added in added_means(net, x).items():
        taken = before[name] - quant_convs(net)[name].bias  # type: ignore[operator]
        torch.testing.assert_close(taken, added, rtol=0, atol=2e-5 * max(1.0, float(added.abs().max())))
        assert float(added.abs().max()) > 1e-3


@torch.no_grad()
def test_unseen_images_gain_from_it_too() -> None:
    net, reference, x = coarse(POSE)
    set_enabled(net, weights=True, activations=False)
    unseen = 0.5 + torch.rand(16, 3, 64, 64)

    def error() -> float:
        return float((net(unseen)[0] - reference(unseen)[0]).square().mean())

    before = error()
    correct_biases(net, x)
    assert error() < 0.9 * before


def test_a_layer_that_is_called_twice_keeps_its_bias() -> None:
    net, reference, x = coarse(CBAM)
    corrections = correct_biases(net, x)
    twice = {name for name in quant_convs(net) if ".gate." in name}
    assert twice
    assert corrections.keys() == quant_convs(net).keys() - twice
    for name in twice:
        assert torch.equal(net.get_submodule(name).bias, reference.get_submodule(name).bias)  # type: ignore[arg-type]


def test_a_network_without_error_is_not_changed() -> None:
    net, _, x = coarse(POSE)
    set_enabled(net, weights=False, activations=False)
    assert max(correct_biases(net, x).values()) == 0.0


@pytest.mark.parametrize("count", [1, IMAGES + 3])
def test_any_number_of_images_will_do(count: int) -> None:
    net, _, _ = coarse(tiny.recipe((32, 32)))
    assert all(value < 10 for value in correct_biases(net, torch.randn(count, 3, 32, 32)).values())
