"""ResNet: the paper's network at width 64, and a dilated one that computes the same on a finer grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekp.errors import RecipeError
from edgekp.recipe import Model
from tests import tiny
from tests.train.promises import dead_parameters, lively, onnx_error, translated_maps
from train.models import build, spec_of
from train.models.cost import count_macs, count_parameters
from train.models.resnet import ResNet

SMALL = {"depth": 18, "width": 8}
each_output_stride = pytest.mark.parametrize("output_stride", [8, 16, 32])


def asked_for(options: dict[str, object], neck: str = "fpn", side: int = 64) -> tiny.Recipe:
    return tiny.recipe((side, side), Model("resnet", options=options, neck=neck, neck_options={"channels": 16}))


@pytest.mark.parametrize(("depth", "parameters", "macs"), [
    (18, 11_689_512, 1.814e9), (34, 21_797_672, 3.664e9), (50, 25_557_032, 4.089e9)])
def test_at_width_64_it_is_the_published_network(depth: int, parameters: int, macs: float) -> None:
    """Torchvision's own counts, less its classifier of 1000 classes."""
    with torch.device("meta"):
        net = ResNet(depth)
    classifier = 1000 * net.widths[-1]
    assert count_parameters(net) == parameters - classifier - 1000
    assert count_macs(net, (224, 224)) == pytest.approx(macs - classifier, rel=1e-3)  # published with four digits


@pytest.mark.parametrize("depth", [18, 50])
@each_output_stride
@torch.no_grad()
def test_widths_and_strides_are_those_of_the_maps(depth: int, output_stride: int) -> None:
    net = ResNet(depth, 8, output_stride).eval()
    maps = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (width, 64 // stride, 96 // stride) for width, stride in zip(net.widths, net.strides, strict=True)]
    assert list(net.strides) == [stride for stride in (4, 8, 16, 32) if stride <= output_stride]
    assert net.coarsest_stride == output_stride


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("output_stride", [8, 16])
@torch.no_grad()
def test_a_dilated_network_says_the_same_between_more_cells(depth: int, output_stride: int) -> None:
    """With the weights of the strided one, each of its cells comes back exactly, and new ones lie between them."""
    strided, dilated = lively(ResNet(depth, 8)), ResNet(depth, 8, output_stride)
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, 64, 96)
    coarse, fine = strided(x)[-1], dilated.eval()(x)[-1]
    step = 32 // output_stride
    assert fine.shape[2:] == (coarse.shape[2] * step, coarse.shape[3] * step)
    torch.testing.assert_close(fine[..., ::step, ::step], coarse, rtol=0, atol=1e-5 * float(coarse.abs().max()))
    assert (fine[..., 1::step, ::step] - coarse).abs().max() > 0.1 * coarse.abs().max()


@pytest.mark.parametrize("options", [
    SMALL, SMALL | {"output_stride": 8}, SMALL | {"depth": 50, "output_stride": 16}, SMALL | {"depth": 34}])
def test_every_parameter_learns(options: dict[str, object]) -> None:
    assert dead_parameters(build(spec_of(asked_for(options))), side=64) == []


@each_output_stride
@torch.no_grad()
def test_a_translated_input_translates_the_maps(rng: np.random.Generator, output_stride: int) -> None:
    """By one cell of the coarsest map, a finer one for a dilated network; ResNet-18 reaches 217 pixels to each side."""
    net = lively(ResNet(18, 8, output_stride))
    for before, after in translated_maps(net, rng, 544, output_stride, (224, 288)):
        assert before.std() > 0.1
        np.testing.assert_allclose(after, before, atol=1e-4 * float(np.abs(before).max()))


@pytest.mark.parametrize("options", [SMALL, SMALL | {"depth": 50}, SMALL | {"output_stride": 8}])
def test_onnx_computes_the_same(tmp_path: Path, options: dict[str, object]) -> None:
    assert onnx_error(asked_for(options), tmp_path) < 1e-4


@pytest.mark.parametrize(("options", "message"), [
    ({"depth": 101}, r"depth 101, expected 18 or 34 or 50"),
    ({"width": 12}, r"width 12, expected a multiple of 8"),
    ({"width": 0}, r"width 0, expected a multiple of 8"),
    ({"output_stride": 4}, r"output_stride 4, expected 8, 16 or 32"),
    ({"depth": "18"}, "depth: '18', expected int"),
    ({"dilation": 2}, "no option of backbone 'resnet' 'dilation'; .*known: depth, width, output_stride, attention"),
])
def test_a_wrong_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(options))


def test_an_input_that_the_coarsest_map_does_not_divide_is_refused() -> None:
    spec_of(asked_for(SMALL | {"output_stride": 8}, side=72))
    with pytest.raises(RecipeError, match="needs multiples of 32"):
        spec_of(asked_for(SMALL, side=72))
