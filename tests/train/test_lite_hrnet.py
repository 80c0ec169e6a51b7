"""Lite-HRNet: the paper's network without what feeds nothing, whose weights look at every resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from edgekp.errors import RecipeError
from edgekp.recipe import Model, Recipe
from tests import tiny
from tests.train.promises import dead_parameters, learnt_by_heart, lively, onnx_error
from train.losses import loss_named
from train.models import build, spec_of
from train.models.cost import count_parameters
from train.models.lite_hrnet import (
    ConditionalChannelWeighting,
    CrossResolutionWeighting,
    Fusion,
    LiteHRNet,
    SpatialWeighting,
)
from train.models.shuffle import channel_shuffle, halves

SMALL = {"depth": 10, "width": 16, "branches": 3}
CHANNELS = [8, 16, 32]


def asked_for(options: dict[str, Any], input_hw: tuple[int, int] = (64, 96)) -> Recipe:
    return tiny.recipe(input_hw, Model("lite_hrnet", options=options))


def pyramid(channels: list[int], side: int = 16) -> list[Tensor]:
    """One map a branch, each half as large as the one before."""
    return [torch.randn(2, count, side >> i, side >> i) for i, count in enumerate(channels)]


@pytest.mark.parametrize(("depth", "millions"), [(18, 1.1), (30, 1.8)])
def test_it_has_the_parameters_of_the_paper(depth: int, millions: float) -> None:
    """Its table 2 counts more: three more sums in the last fusion, the authors' head that merges them, 17 maps."""
    with torch.device("meta"):
        net = LiteHRNet(depth)
        whole = Fusion([40, 80, 160, 320], 4)
    def separable(channels: int, goal: int) -> int:
        return 9 * channels + 2 * channels + channels * goal + 2 * goal
    sums = sum(count_parameters(paths) for paths in whole.paths[1:])
    head = separable(320, 160) + separable(160, 80) + separable(80, 40) + separable(40, 40)
    assert round((count_parameters(net) + sums + head + 17 * 40 + 17) / 1e6, 1) == millions


@pytest.mark.parametrize("depth", [10, 18, 30])
def test_the_depth_counts_blocks_and_the_stems_two_layers(depth: int) -> None:
    with torch.device("meta"):
        blocks = [m for m in LiteHRNet(depth).modules() if isinstance(m, ConditionalChannelWeighting)]
    assert len(blocks) + 2 == depth


@pytest.mark.parametrize("branches", [2, 3, 4])
@torch.no_grad()
def test_it_keeps_a_quarter_of_the_resolution(branches: int) -> None:
    net = LiteHRNet(10, 16, branches).eval()
    finest, = net(torch.zeros(1, 3, 64, 96))
    assert (net.widths, net.strides, net.coarsest_stride) == ((16,), (4,), 4 * 2 ** (branches - 1))
    assert finest.shape == (1, 16, 16, 24)


@pytest.mark.parametrize("source", range(3))
@torch.no_grad()
def test_the_weight_of_every_channel_depends_on_every_resolution(source: int) -> None:
    weighting, maps = lively(CrossResolutionWeighting(CHANNELS)), pyramid(CHANNELS)
    before = [after / x for after, x in zip(weighting(maps), maps, strict=True)]
    changed = [x + torch.randn_like(x) if i == source else x for i, x in enumerate(maps)]
    after = [y / x for y, x in zip(weighting(changed), changed, strict=True)]
    for one, other in zip(before, after, strict=True):
        assert ((one - other).abs().amax((0, 2, 3)) > 1e-3).all()  # every channel of this map


@torch.no_grad()
def test_the_weights_equal_those_of_adaptive_pooling_to_the_coarsest_size() -> None:
    weighting, maps = lively(CrossResolutionWeighting(CHANNELS)), pyramid(CHANNELS)
    summary = torch.cat([adaptive_avg_pool2d(x, maps[-1].shape[2:]) for x in maps], 1)
    weights = weighting.gate(summary)
    assert 0 < weights.min() < weights.max() < 1
    start = 0
    for found, x, count in zip(weighting(maps), maps, CHANNELS, strict=True):
        mine = interpolate(weights[:, start:start + count], x.shape[2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(found, x * mine)
        start += count


@torch.no_grad()
def test_the_spatial_weights_are_one_a_channel_and_read_all_means() -> None:
    weighting, x = lively(SpatialWeighting(8)), torch.randn(2, 8, 6, 10)
    squeeze, _, excite, _ = weighting.gate
    hidden = np.maximum(x.numpy().mean((2, 3)) @ squeeze.weight[..., 0, 0].numpy().T + squeeze.bias.numpy(), 0)
    logits = hidden @ excite.weight[..., 0, 0].numpy().T + excite.bias.numpy()
    by_hand = x.numpy() / (1 + np.exp(-logits))[..., None, None]
    np.testing.assert_allclose(weighting(x).numpy(), by_hand, atol=1e-5)


@torch.no_grad()
def test_a_block_passes_one_half_of_every_branch_and_weights_the_other() -> None:
    channels = [2 * count for count in CHANNELS]
    block, maps = lively(ConditionalChannelWeighting(channels)), pyramid(channels)
    for found, x, count in zip(block(maps), maps, CHANNELS, strict=True):
        passing, weighted = halves(channel_shuffle(found, count))  # unshuffled
        assert torch.equal(passing, x[:, :count])
        assert (weighted - x[:, count:]).abs().max() > 0.1


@torch.no_grad()
def test_a_fusion_adds_every_branch_to_every_branch() -> None:
    fusion, maps = lively(Fusion([16, 32, 64], 3)), pyramid([16, 32, 64])
    fusion.blocks = nn.Identity()
    before = fusion(maps)
    for source in range(3):
        after = fusion([x + torch.randn_like(x) if i == source else x for i, x in enumerate(maps)])
        assert all((one - other).abs().max() > 0.1 for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("options", [SMALL, SMALL | {"branches": 2}, {"depth": 10}])
def test_every_parameter_learns(options: dict[str, Any]) -> None:
    assert dead_parameters(build(spec_of(asked_for(options, (64, 64)))), side=64) == []


@torch.no_grad()
def test_fx_traces_the_same_computation() -> None:
    net = lively(LiteHRNet(**SMALL))
    x = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(fx.symbolic_trace(net)(x)[0], net(x)[0])


@pytest.mark.slow
@pytest.mark.parametrize("options", [SMALL, SMALL | {"branches": 2}, {"depth": 10}])
def test_onnx_computes_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    assert onnx_error(asked_for(options), tmp_path) < 1e-4


@pytest.mark.slow
def test_shapes_and_kernels_are_constants_in_the_exported_file() -> None:
    net, _, contract = tiny.network(asked_for(SMALL))
    nodes = simplify(to_onnx(net, contract, 17)).graph.node
    kernels = {tuple(attribute.ints) for node in nodes if node.op_type == "AveragePool"
               for attribute in node.attribute if attribute.name == "kernel_shape"}
    assert kernels == {(2, 2), (4, 4)}  # to stride 16 from 8 and from 4
    assert not {node.op_type for node in nodes} & {"Shape", "Gather", "Expand", "Range", "Cast", "GlobalAveragePool"}


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(rng: np.random.Generator) -> None:
    recipe = asked_for({"depth": 10, "width": 32, "branches": 3}, (64, 64))
    error, score = learnt_by_heart(recipe, loss_named("mse", recipe.contract()).of, rng)
    assert error < 0.15
    assert 0.2 < score < 1.3


@pytest.mark.parametrize(("options", "message"), [
    ({"depth": 20}, r"depth 20, expected 10 or 18 or 30"),
    ({"width": 8}, r"width 8, expected a multiple of 8 from 16 on"),
    ({"width": 20}, r"width 20, expected a multiple of 8"),
    ({"branches": 5}, r"branches 5, expected 2 to 4"),
    ({"depth": "18"}, "depth: '18', expected int"),
    ({"modules": 2}, "no option of backbone 'lite_hrnet' 'modules'; .*known: depth, width, branches"),
])
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(options))


@pytest.mark.parametrize(("branches", "stride"), [(2, 8), (3, 16), (4, 32)])
def test_an_input_that_the_coarsest_branch_does_not_divide_is_refused(branches: int, stride: int) -> None:
    side = 64 + stride // 2
    with pytest.raises(RecipeError, match=f"needs multiples of {stride}"):
        spec_of(asked_for(SMALL | {"branches": branches}, (side, 64)))
