"""U-Net: the stride that was asked for, and skips that bring to it the detail which the coarse maps lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe import CodecChoice, Model
from tests import tiny
from tests.train.promises import dead_parameters, lively, onnx_error, translated_maps
from train.models import build, spec_of
from train.models.unet import UNet

SMALL = {"width": 8, "depth": 3}
each_stride = pytest.mark.parametrize("stride", [1, 2, 4])
each_upsampling = pytest.mark.parametrize("upsample", ["bilinear", "transposed"])


def small(stride: int, upsample: str = "bilinear") -> UNet:
    net = UNet(8, 3, stride, upsample)
    lively(net)
    return net


def asked_for(options: dict[str, object]) -> tiny.Recipe:
    recipe = tiny.recipe(model=Model("unet", options=options))
    return replace(recipe, codec=CodecChoice("heatmap", {"stride": options.get("stride", 4)}))


def reads(merge: nn.Module) -> torch.Tensor:
    """Weights with which a decoder level reads its skip (the first half of the channels in) and the upsampled map."""
    weight = merge[0][0].weight  # type: ignore[index]
    assert isinstance(weight, torch.Tensor)
    return weight


@pytest.mark.parametrize("input_hw", [(64, 64), (128, 96)])
@each_stride
@each_upsampling
@torch.no_grad()
def test_trap_the_map_has_the_stride_that_was_asked_for(input_hw: tuple[int, int], stride: int, upsample: str) -> None:
    net = small(stride, upsample)
    found, = net(torch.zeros(1, 3, *input_hw))
    assert found.shape[1:] == (8 * stride, *(side // stride for side in input_hw))
    assert (net.widths, net.strides) == ((8 * stride,), (stride,))


@each_stride
@torch.no_grad()
def test_trap_skips_carry_what_changes_from_cell_to_cell(rng: np.random.Generator, stride: int) -> None:
    """What follows a shift by one cell of the finest map went through the finest skip: all else knows even cells only.

    So with nothing from below the finest level the map follows; with nothing from the skip it does not.
    """
    follows = {}
    for kept in ("skip", "below"):
        net = small(stride)
        halves = reads(net.decoder[0]).chunk(2, dim=1)
        halves[1 if kept == "skip" else 0].zero_()
        (before, after), = translated_maps(net, rng, 192, stride, (80, 112))
        assert before.std() > 0.01
        follows[kept] = float(np.abs(after - before).max() / np.abs(before).max())
    assert follows["skip"] < 1e-5
    assert follows["below"] > 0.05


@each_stride
@torch.no_grad()
def test_every_level_of_the_decoder_reads_its_skip_and_what_is_below(stride: int) -> None:
    x = torch.randn(1, 3, 64, 64)
    levels = len(small(stride).decoder)
    assert levels == {1: 3, 2: 2, 4: 1}[stride]
    for level in range(levels):
        for half in (0, 1):
            net = small(stride)
            before, = net(x)
            reads(net.decoder[level]).chunk(2, dim=1)[half].zero_()
            assert (net(x)[0] - before).abs().max() > 1e-3 * before.abs().max()


@each_stride
@each_upsampling
@torch.no_grad()
def test_a_translated_input_translates_the_map(rng: np.random.Generator, stride: int, upsample: str) -> None:
    """By one cell of the coarsest map; three halvings reach less than 80 pixels."""
    (before, after), = translated_maps(small(stride, upsample), rng, 224, 8, (96, 120))
    assert before.std() > 0.1
    np.testing.assert_allclose(after, before, atol=1e-4 * float(np.abs(before).max()))


@pytest.mark.parametrize("options", [
    SMALL, SMALL | {"stride": 1}, SMALL | {"stride": 2, "upsample": "transposed"}, {"width": 8}])
def test_every_parameter_learns(options: dict[str, object]) -> None:
    assert dead_parameters(build(spec_of(asked_for(options)))) == []


@pytest.mark.parametrize("options", [SMALL, SMALL | {"stride": 1}, SMALL | {"stride": 2, "upsample": "transposed"}])
def test_onnx_computes_the_same(tmp_path: Path, options: dict[str, object]) -> None:
    assert onnx_error(asked_for(options), tmp_path) < 1e-4


@pytest.mark.parametrize(("options", "message"), [
    ({"width": 12}, r"width 12, expected a multiple of 8"),
    ({"stride": 8}, r"stride 8, expected 1, 2 or 4"),
    ({"depth": 2}, r"depth 2, expected more halvings than the stride has, 5 at most"),
    ({"depth": 6}, r"depth 6, expected more halvings"),
    ({"depth": -1}, r"depth -1, expected more halvings"),
    ({"upsample": "nearest"}, "model.options.upsample: no upsampling 'nearest'; .*known: transposed, bilinear"),
    ({"skips": False}, "no option of backbone 'unet' 'skips'; known: width, depth, stride, upsample"),
])
def test_a_wrong_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(tiny.recipe(model=Model("unet", options=options)))


def test_a_decoder_of_another_stride_than_the_codec_is_refused() -> None:
    with pytest.raises(RecipeError, match="stride: 4, but backbone 'unet' has stride 2"):
        spec_of(tiny.recipe(model=Model("unet", options=SMALL | {"stride": 2})))


def test_an_input_that_the_coarsest_map_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs multiples of 16"):
        spec_of(tiny.recipe((72, 64), Model("unet")))
