"""Adaptive rounding: levels next to the weights, on the grid, whose sum comes nearer to the layer's float output."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, fx, nn

from optimize import adaround
from optimize.adaround import adaptive_rounding, round_layer
from optimize.calibration import calibrate
from optimize.ptq import set_weight_scales
from train.models.quantized import QuantConv, QuantizationSpec, insert_fake_quantizers, quant_convs, set_enabled


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images(count: int = 16, channels: int = 3) -> Tensor:
    """Smooth noise: neighbours and channels are alike, as in pictures and features."""
    smooth = torch.nn.functional.avg_pool2d(torch.randn(count, channels, 20, 20), 5, 1)
    return smooth + torch.randn(count, 1, 16, 16) / 4


def on_grid() -> tuple[fx.GraphModule, nn.Module]:
    """A network of a dense, a depthwise and a strided convolution, calibrated, and the same in float."""
    net = insert_fake_quantizers(nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 4, 3, stride=2, bias=False)), QuantizationSpec(()))
    set_weight_scales(net)
    for conv in quant_convs(net).values():
        conv.weight_scale *= 127 / 7  # 4 bits: the coarser the grid, the more there is to choose
    calibrate(net, images(), "mse")
    reference = copy.deepcopy(net)
    set_enabled(reference, weights=False, activations=False)
    return net, reference


@torch.no_grad()
def error(net: nn.Module, reference: nn.Module) -> float:
    """On images that rounding has not seen."""
    torch.manual_seed(1)
    unseen = images(64)
    return float((net(unseen) - reference(unseen)).square().mean())


@torch.no_grad()
def test_the_network_comes_nearer_to_float_than_with_nearest_rounding() -> None:
    net, reference = on_grid()
    nearest = error(net, reference)
    remaining = adaptive_rounding(net, reference, images())
    assert list(remaining) == list(quant_convs(net))
    assert all(0 <= share <= 1 for share in remaining.values())
    assert error(net, reference) < 0.7 * nearest


@torch.no_grad()
def test_weights_lie_on_their_grid_one_level_above_or_below_where_they_were() -> None:
    net, reference = on_grid()
    adaptive_rounding(net, reference, images())
    moved = 0
    for name, conv in quant_convs(net).items():
        scale = conv.per_channel(conv.weight_scale)
        before, after = reference.get_submodule(name).weight / scale, conv.weight / scale
        torch.testing.assert_close(after, after.round(), atol=1e-4, rtol=0)
        torch.testing.assert_close(conv.rounded_weight(), conv.weight, atol=1e-5, rtol=1e-5)
        assert float((after - before).abs().max()) < 1 + 1e-4
        assert float((after - before.round()).abs().max()) < 1 + 1e-4
        moved += int(((after - before.round()).abs() > 0.5).sum())
    assert moved > 10


@torch.no_grad()
def test_levels_beyond_the_grid_are_never_chosen() -> None:
    net, reference = on_grid()
    for network in (net, reference):
        first = next(iter(quant_convs(network).values()))
        first.weight[0, 0, 0, 0] = 127.4 * first.weight_scale[0]
        first.weight[1, 0, 0, 0] = -130.0 * first.weight_scale[1]
    adaptive_rounding(net, reference, images())
    levels = first_levels(net)
    assert levels.max() <= 127
    assert levels.min() >= -128


def first_levels(net: nn.Module) -> Tensor:
    first = next(iter(quant_convs(net).values()))
    return (first.weight / first.per_channel(first.weight_scale)).round()


def single(weight: Tensor, scale: float = 1.0) -> QuantConv:
    """A 1 x 1 convolution with the weights (C, K) and one step of the grid."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    conv.weight.data = weight[..., None, None]
    layer = QuantConv(conv)
    layer.weight_scale.fill_(scale)
    return layer


@torch.no_grad()
def test_no_choice_is_better_by_one_weight_and_hardly_one_by_several() -> None:
    weight, x = torch.rand(32, 6) * 8 - 4, torch.randn(500, 6) @ torch.randn(6, 6)
    layer = single(weight)
    round_layer(layer, x[None], x @ weight.T)

    def cost(levels: Tensor) -> Tensor:
        return (x @ (levels - weight).T).square().mean(0)

    chosen, below = layer.weight.flatten(1), weight.floor()
    found, nearest = cost(chosen), cost(weight.round())
    for one in torch.eye(6):
        turned = torch.where(one > 0, 2 * below + 1 - chosen, chosen)
        assert (cost(turned) > 0.999 * found).all()
    best = torch.stack([cost(below + torch.tensor(up)) for up in product((0.0, 1.0), repeat=6)]).amin(0)
    assert (best <= 1.001 * found).all()
    assert (nearest - found).sum() > 2 / 3 * (nearest - best).sum()


@torch.no_grad()
def test_inputs_that_have_nothing_to_do_with_each_other_leave_the_nearest_levels() -> None:
    weight, x = torch.rand(8, 6) * 8 - 4, torch.linalg.qr(torch.randn(500, 6)).Q
    layer = single(weight)
    assert round_layer(layer, x[None], x @ weight.T) == pytest.approx(1.0)
    assert torch.equal(layer.weight.flatten(1), weight.round())


@torch.no_grad()
def test_what_a_layer_saw_elsewhere_is_part_of_its_error() -> None:
    """A weight whose own input is always 1 makes up for an offset that the layers before have left."""
    weight, x = torch.tensor([[2.2, 1.0]]), torch.ones(100, 2)
    x[:, 1] = torch.randn(100)
    layer = single(weight)
    round_layer(layer, x[None], x @ weight.T + 0.7)
    assert layer.weight.flatten().tolist() == [3.0, 1.0]


@pytest.mark.parametrize(("options", "groups"), [
    ({"padding": 1}, 1), ({"stride": 2, "padding": (0, 1)}, 1), ({"dilation": 2, "padding": 2}, 1),
    ({"padding": 1, "groups": 2}, 2), ({"stride": (1, 2), "groups": 4}, 4)])
@torch.no_grad()
def test_patches_times_weights_are_the_convolution(options: dict[str, int], groups: int) -> None:
    conv = QuantConv(nn.Conv2d(4, 8, (3, 3), bias=False, **options))  # type: ignore[arg-type]
    conv.enabled = False
    x = torch.randn(2, 4, 9, 11)
    patches, net = adaround._sampled_patches(conv, x), nn.Sequential(conv)
    wanted = adaround._sampled_outputs(net, ["0"], x)["0"]
    found = patches @ conv.weight.reshape(groups, 8 // groups, -1).transpose(1, 2)
    torch.testing.assert_close(found.permute(1, 0, 2).flatten(1), wanted)


@torch.no_grad()
def test_a_layer_that_is_zero_on_every_image_keeps_the_nearest_levels() -> None:
    weight = torch.rand(4, 6) * 8 - 4
    layer = single(weight)
    assert round_layer(layer, torch.zeros(1, 50, 6), torch.zeros(50, 4)) <= 1
    assert torch.equal(layer.weight.flatten(1), weight.round())


@torch.no_grad()
def test_it_finds_the_same_levels_each_time() -> None:
    net, reference = on_grid()
    inputs, again = images(), copy.deepcopy(net)
    adaptive_rounding(net, reference, inputs)
    torch.randn(7)
    adaptive_rounding(again, reference, inputs)
    assert torch.equal(first_levels(net), first_levels(again))
