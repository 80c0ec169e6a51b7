"""Cost and widths: MACs equal a count by hand, and a narrowed network is rebuilt layer for layer."""

from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import nn

from edgekp.recipe import Model
from tests import tiny
from train.models import build
from train.models.channels import read_channels, resize
from train.models.cost import count_macs, count_parameters

SMALL_FPN = {"neck": "fpn", "neck_options": {"channels": 32, "upsample": "transposed"}}
RESNET = {"width": 16, "output_stride": 8}
NETWORKS = {
    "dilated-deconv": Model("resnet", options=RESNET, neck="deconv", neck_options={"channels": 32}),
    "bottleneck-fpn": Model("resnet", options={"depth": 50, "width": 16}, **SMALL_FPN),  # type: ignore[arg-type]
    "se": Model("resnet", options=RESNET | {"attention": "se"}, **SMALL_FPN),  # type: ignore[arg-type]
    "cbam": Model("resnet", options=RESNET | {"attention": "cbam"}, **SMALL_FPN),  # type: ignore[arg-type]
    "unet": Model("unet", options={"width": 16, "upsample": "transposed"}),
}


def test_macs_of_a_transposed_convolution_equal_a_count_by_hand() -> None:
    """Each of the 8 x 8 cells of each channel in is multiplied with the 4 x 4 kernel of each channel out."""
    net = nn.Sequential(nn.Conv2d(3, 6, 1, stride=2), nn.ConvTranspose2d(6, 10, 4, 2, 1),
                        nn.ConvTranspose2d(10, 10, 2, 2, groups=10, bias=False))
    by_hand = 8 * 8 * 3 * 6 + 8 * 8 * 6 * 10 * 16 + 16 * 16 * 10 * 4
    assert count_macs(net, (16, 16)) == by_hand
    assert count_parameters(net) == (3 * 6 + 6) + (6 * 10 * 16 + 10) + 10 * 4


def test_macs_of_a_transposed_convolution_are_those_of_the_convolution_it_transposes() -> None:
    """The same kernel at the same places, read in the other direction."""
    there = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1, bias=False))
    and_back = nn.Sequential(*there, nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False))
    assert count_macs(and_back, (32, 48)) == 2 * count_macs(there, (32, 48))


def test_macs_of_linear_layers_are_one_per_weight_and_row() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 7), nn.Linear(7, 2, bias=False))
    assert count_macs(flat, (4, 4)) == 3 * 4 * 4 * 7 + 7 * 2
    rows = nn.Sequential(nn.Flatten(2), nn.Linear(16, 5))  # of three rows
    assert count_macs(rows, (4, 4)) == 3 * 16 * 5


def test_macs_of_dilation_are_none() -> None:
    plain, dilated = (nn.Sequential(nn.Conv2d(3, 8, 3, padding=dilation, dilation=dilation)) for dilation in (1, 2))
    assert count_macs(plain, (16, 16)) == count_macs(dilated, (16, 16))


def test_a_layer_that_runs_twice_counts_twice() -> None:
    layer = nn.Conv2d(3, 3, 1)
    assert count_macs(nn.Sequential(layer, layer), (8, 8)) == 2 * count_macs(nn.Sequential(layer), (8, 8))


@pytest.mark.parametrize("layer", [
    nn.Conv2d(8, 12, 3, 2, 2, dilation=2), nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8, bias=False),
    nn.ConvTranspose2d(8, 12, 4, 2, 1, bias=False), nn.ConvTranspose2d(8, 12, 3, 2, 1, 1, dilation=2),
    nn.Linear(8, 12), nn.Linear(8, 12, bias=False), nn.BatchNorm2d(8), nn.PReLU(8)], ids=str)
@torch.no_grad()
def test_a_resized_layer_differs_in_nothing_but_its_widths(layer: nn.Module) -> None:
    """Back at its old widths and with its old weights, it computes what it did."""
    net = nn.Sequential(layer).eval()
    widths = read_channels(net)
    narrow = {"0": (4, 4, 4 if widths["0"][2] > 1 else 1)}
    resize(net, narrow)
    assert read_channels(net) == narrow
    resize(net, widths)
    assert read_channels(net) == widths
    assert str(net[0]) == str(layer)
    net[0].load_state_dict(layer.state_dict())
    x = torch.randn(2, 8, 9, 8)
    assert torch.equal(net.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
def test_a_pruned_network_is_rebuilt_from_its_widths(model: Model) -> None:
    pruned, spec, _ = tiny.network(tiny.recipe(model=model))
    before = read_channels(pruned)
    tp.pruner.BasePruner(pruned, torch.zeros(1, 3, 64, 64), tp.importance.MagnitudeImportance(), pruning_ratio=0.5,
                         global_pruning=True, round_to=8, ignored_layers=[pruned.get_submodule("head.output")]).step()
    widths = read_channels(pruned)
    changed = {name: width for name, width in widths.items() if width != before[name]}
    assert any(isinstance(pruned.get_submodule(name), nn.ConvTranspose2d) for name in changed)
    rebuilt = build(spec)
    resize(rebuilt, changed)
    rebuilt.load_state_dict(pruned.state_dict())
    with torch.no_grad():
        x = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(rebuilt.eval()(x)[0], pruned.eval()(x)[0])
    assert count_macs(rebuilt, (64, 64)) == count_macs(pruned, (64, 64))
    assert widths == read_channels(rebuilt)
