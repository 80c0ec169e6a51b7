"""PFLD: the rows of the paper's table, and a head that reads every scale of whatever backbone it is put on."""

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
from tests.train.promises import dead_parameters, learnt_by_heart, lively, onnx_error
from train.losses import loss_named
from train.models import HEADS, build, spec_of
from train.models.cost import count_macs, count_parameters
from train.models.pfld import PFLD, MultiScaleHead

each_backbone = pytest.mark.parametrize("backbone", ["pfld", "mobilefacenet"])


def asked_for(backbone: str = "pfld", head: str = "multi_scale", input_hw: tuple[int, int] = (112, 112),
              **options: Any) -> Recipe:
    return tiny.recipe(input_hw, Model(backbone, head, options), "regression")


def bottleneck(channels: int, goal: int, expansion: int) -> int:
    """Parameters of an inverted residual: two 1 x 1 and a depthwise 3 x 3 convolution, each with batch norm."""
    hidden = expansion * channels
    return (channels * hidden + 2 * hidden) + (9 * hidden + 2 * hidden) + (hidden * goal + 2 * goal)


def test_it_has_the_parameters_of_the_papers_table() -> None:
    """Table 1, row by row, for the 98 keypoints of WFLW; the paper gives no count, but megabytes of a file."""
    s1 = ((27 * 64 + 128) + (9 * 64 + 128) + 5 * bottleneck(64, 64, 2) + bottleneck(64, 128, 2)
          + 6 * bottleneck(128, 128, 4) + bottleneck(128, 16, 2))
    s2 = 9 * 16 * 32 + 64
    s3 = 7 * 7 * 32 * 128 + 256
    linear = (16 + 32 + 128) * 196 + 196
    backbone = PFLD()
    head = MultiScaleHead(backbone.widths, backbone.strides, 98, (112, 112))
    assert count_parameters(backbone) == s1 + s2
    assert count_parameters(head) == s3 + linear
    assert count_parameters(PFLD(0.25)) < count_parameters(backbone) / 13  # nearly the square of the width


def test_it_has_the_multiply_accumulates_of_the_papers_table() -> None:
    def macs(channels: int, goal: int, expansion: int, before: int, after: int) -> int:
        hidden = expansion * channels
        return before**2 * channels * hidden + after**2 * (9 * hidden + hidden * goal)
    by_hand = (56**2 * (27 * 64 + 9 * 64) + macs(64, 64, 2, 56, 28) + 4 * macs(64, 64, 2, 28, 28)
               + macs(64, 128, 2, 28, 14) + 6 * macs(128, 128, 4, 14, 14) + macs(128, 16, 2, 14, 14)
               + 7**2 * 9 * 16 * 32)
    assert count_macs(PFLD(), (112, 112)) == by_hand


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 2.0])
@torch.no_grad()
def test_widths_and_strides_are_those_of_the_maps(width: float) -> None:
    net = PFLD(width).eval()
    maps = net(torch.zeros(1, 3, 64, 96))
    assert net.strides == (8, 16)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(net.widths, net.strides, strict=True)]


def test_the_codecs_default_head_stays_what_it_was() -> None:
    assert spec_of(asked_for(head="")).head == "integral"
    assert HEADS["multi_scale"].outputs == HEADS["integral"].outputs


@each_backbone
@torch.no_grad()
def test_the_head_reads_every_scale(backbone: str) -> None:
    net, _, _ = tiny.network(asked_for(backbone))
    features = net.get_submodule("backbone")(torch.randn(1, 3, 112, 112))
    head = net.get_submodule("head")
    before, = head(features)
    for i, feature in enumerate(features):
        changed, = head((*features[:i], feature + 1.0, *features[i + 1:]))
        assert (changed - before).abs().max() > 1e-2


@torch.no_grad()
def test_only_the_coarsest_scale_knows_where_something_is() -> None:
    """Means forget positions, the convolution as large as the map does not."""
    head = lively(MultiScaleHead((16, 32), (8, 16), 5, (112, 112)))
    nn.init.normal_(head.output.weight)
    fine, coarse = torch.randn(1, 16, 14, 14), torch.randn(1, 32, 7, 7)
    before, = head((fine, coarse))
    torch.testing.assert_close(head((fine.flip(3), coarse))[0], before, atol=1e-4, rtol=1e-4)
    assert (head((fine, coarse.flip(3)))[0] - before).abs().max() > 1.0


@torch.no_grad()
def test_the_output_is_a_linear_layer_on_all_vectors() -> None:
    head = lively(MultiScaleHead((8, 16, 64), (4, 8, 16), 5, (64, 96)))
    features = torch.randn(2, 8, 16, 24), torch.randn(2, 16, 8, 12), torch.randn(2, 64, 4, 6)
    whole = head.whole(head.narrow(features[-1])).flatten(1)
    vectors = np.concatenate([*(one.numpy().mean((2, 3)) for one in features), whole.numpy()], 1)
    by_hand = vectors @ head.output.weight.flatten(1).numpy().T + head.output.bias.numpy()
    np.testing.assert_allclose(head(features)[0].numpy(), by_hand.reshape(2, 5, 2), atol=1e-5)


@each_backbone
def test_every_parameter_learns(backbone: str) -> None:
    assert dead_parameters(build(spec_of(asked_for(backbone, input_hw=(64, 64)))), side=64) == []


@each_backbone
def test_fx_traces_the_same_computation(backbone: str) -> None:
    net, _, _ = tiny.network(asked_for(backbone))
    x = torch.randn(2, 3, 112, 112)
    torch.testing.assert_close(fx.symbolic_trace(net)(x)[0], net(x)[0])


@pytest.mark.parametrize(("backbone", "head"), [
    ("pfld", "multi_scale"), ("mobilefacenet", "multi_scale"), ("pfld", "integral"), ("pfld", "gdconv")])
def test_onnx_computes_the_same(tmp_path: Path, backbone: str, head: str) -> None:
    assert onnx_error(asked_for(backbone, head, (64, 96)), tmp_path) < 1e-4


@pytest.mark.slow
@each_backbone
def test_eight_samples_are_learnt_by_heart(backbone: str, rng: np.random.Generator) -> None:
    recipe = asked_for(backbone, input_hw=(32, 32))
    error, score = learnt_by_heart(recipe, loss_named("wing", recipe.contract()).of, rng)
    assert error < 0.15
    assert score == 1.0  # coordinates come without a score of their own


@pytest.mark.parametrize(("options", "message"), [
    ({"width": 0.1}, "width: 0.1, expected a multiplier from 0.25 to 2"),
    ({"width": "1.0"}, "width: '1.0', expected float"),
    ({"auxiliary": True}, "no option of backbone 'pfld' 'auxiliary'; known: width"),
])
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(**options))


def test_a_backbone_of_one_map_is_refused() -> None:
    with pytest.raises(RecipeError, match="'multi_scale' reads 2 or 3 feature maps, backbone 'hrnet_lite' gives 1"):
        spec_of(tiny.recipe(model=Model("hrnet_lite", "multi_scale"), codec="regression"))


def test_an_input_that_the_coarsest_map_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs multiples of 16"):
        spec_of(asked_for(input_hw=(104, 112)))
