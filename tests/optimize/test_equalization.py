"""Cross-layer equalisation: the same function, even ranges, and only where a factor can pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from optimize.calibration import calibrate
from optimize.equalization import Pair, equalizable_pairs, equalize, largest_of_inputs
from optimize.ptq import set_weight_scales
from tests import tiny
from train.models.quantized import QuantizationSpec, insert_fake_quantizers, quant_convs, set_enabled


class Block(nn.Module):
    """Layers in a row; what ``joined`` makes of the first half's and the whole's result."""

    def __init__(self, *layers: nn.Module, joined: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.joined = joined

    def forward(self, x: Tensor) -> Tensor:
        first = last = x
        for number, layer in enumerate(self.layers):
            last = layer(last)
            first = last if number == 1 else first
        return self.joined(first, last) if self.joined else last


def conv(channels_in: int = 4, channels_out: int = 4, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, groups=groups)


def on_grid(net: nn.Module, *keep_float: str) -> fx.GraphModule:
    return insert_fake_quantizers(net, QuantizationSpec(keep_float))


def pairs(net: nn.Module, *keep_float: str) -> list[tuple[str, str]]:
    return [(pair.first[-1], pair.second[-1]) for pair in equalizable_pairs(on_grid(net, *keep_float))]


@pytest.mark.parametrize("between", [nn.ReLU(), nn.PReLU(4), nn.PReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2),
                                     nn.Identity()], ids=lambda layer: type(layer).__name__)
def test_layers_with_something_between_them_that_lets_factors_pass_are_a_pair(between: nn.Module) -> None:
    assert pairs(Block(conv(), between, conv())) == [("0", "2")]


@pytest.mark.parametrize("between", [nn.Hardswish(), nn.Sigmoid(), nn.SiLU(), nn.Hardsigmoid()],
                         ids=lambda layer: type(layer).__name__)
def test_a_curve_between_two_layers_makes_them_no_pair(between: nn.Module) -> None:
    assert pairs(Block(conv(), between, conv())) == []


@pytest.mark.parametrize("joined", [torch.add, lambda a, b: torch.cat([a, b], 1)], ids=["add", "cat"])
def test_a_value_with_two_readers_is_left_alone(joined: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert pairs(Block(conv(), nn.ReLU(), conv(), nn.ReLU(), conv(), joined=joined)) == [("2", "4")]


def test_a_sum_between_two_layers_makes_them_no_pair() -> None:
    net = nn.Sequential(Block(conv(), nn.ReLU(), conv(), joined=torch.add), conv())
    assert pairs(net) == []


def test_layers_in_float_and_layers_that_are_called_twice_are_no_pair() -> None:
    shared = conv()
    assert pairs(Block(conv(), nn.ReLU(), conv()), "layers.2") == []
    assert pairs(Block(shared, nn.ReLU(), shared, nn.ReLU(), conv())) == []


def test_a_chain_with_a_depthwise_layer_has_two_pairs() -> None:
    net = Block(conv(3, 8), nn.ReLU(), conv(8, 8, groups=8), nn.ReLU(), conv(8, 4))
    assert equalizable_pairs(on_grid(net)) == [Pair("layers.0", "layers.2"), Pair("layers.2", "layers.4")]


CHAINS = {
    "dense": lambda: Block(conv(3, 8), nn.ReLU(), conv(8, 6)),
    "depthwise": lambda: Block(conv(3, 8), nn.PReLU(8), conv(8, 8, groups=8), nn.ReLU(), conv(8, 4)),
    "grouped": lambda: Block(conv(3, 8), nn.ReLU(), conv(8, 6, groups=2)),
    "transposed": lambda: Block(nn.ConvTranspose2d(3, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 5, 4, 2, 1)),
}


def uneven(name: str) -> tuple[fx.GraphModule, Tensor]:
    """A chain whose channels have ranges from 0.01 to 100, and inputs for it; it computes in float."""
    torch.manual_seed(0)
    graph = on_grid(CHAINS[name]())
    first = next(iter(quant_convs(graph).values()))
    factors = torch.logspace(-2, 2, first.out_channels)
    with torch.no_grad():
        first.weight.mul_(first.per_channel(factors))
        first.bias.mul_(factors)  # type: ignore[union-attr]
    set_enabled(graph, weights=False, activations=False)
    return graph, torch.randn(8, 3, 8, 8)


@pytest.mark.parametrize("name", CHAINS)
@torch.no_grad()
def test_the_function_stays_the_same_and_ranges_become_even(name: str) -> None:
    graph, x = uneven(name)
    expected = graph(x)
    found = equalize(graph)
    torch.testing.assert_close(graph(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert found
    for pair in found:
        said = graph.get_submodule(pair.first).largest_weights()  # type: ignore[operator]
        read = largest_of_inputs(graph.get_submodule(pair.second))  # type: ignore[arg-type]
        torch.testing.assert_close(said, read, rtol=0.02, atol=0.0)  # a factor of 1 % is 2 % of their ratio


@pytest.mark.parametrize("name", CHAINS)
@torch.no_grad()
def test_rounding_costs_less_where_ranges_were_uneven(name: str) -> None:
    def error(even: bool) -> float:
        graph, x = uneven(name)
        expected = graph(x)
        if even:
            equalize(graph)
        set_weight_scales(graph)
        calibrate(graph, x, "minmax")
        return float((graph(x) - expected).square().mean() / expected.square().mean())

    assert error(even=True) < 0.8 * error(even=False)


@torch.no_grad()
def test_dead_channels_stay_finite() -> None:
    graph, x = uneven("dense")
    first, second = quant_convs(graph).values()
    first.weight[2] = 0.0
    second.weight[:, 5] = 0.0
    expected = graph(x)
    equalize(graph)
    torch.testing.assert_close(graph(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
def test_a_whole_network_says_the_same_afterwards() -> None:
    recipe = tiny.recipe()
    net, _, _ = tiny.network(recipe)
    graph = on_grid(net, "head.output")
    set_enabled(graph, weights=False, activations=False)
    x = torch.randn(2, 3, 64, 64)
    expected = net(x)[0]
    assert len(equalize(graph)) == 3  # the stem's two layers, and two in each of two blocks
    assert (graph(x)[0] - expected).abs().max() < 1e-5 * expected.abs().max()
