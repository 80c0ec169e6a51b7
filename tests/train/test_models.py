"""Networks: everything in them learns, nothing is shifted, and a wrong choice is refused by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.codecs import CODECS, Heatmap, Regression, build_codec
from edgekp.errors import RecipeError
from edgekp.recipe import CodecChoice, Model, Recipe
from tests import tiny
from tests.train.promises import learnt_by_heart, onnx_error
from train.losses import loss_named
from train.models import BACKBONES, HEADS, ModelSpec, build, spec_of
from train.models.cost import count_macs, count_parameters
from train.models.heads import IntegralHead

LOSS_OF = {"heatmap": "mse", "offset": "heatmap_offset", "udp_combined": "udp_combined", "integral": "integral",
           "simcc": "kl", "regression": "wing"}
SMALL_NECK = {"channels": 32}
SMALL = {  # one small network of each backbone; 17 maps need as many features
    "hrnet_lite": Model("hrnet_lite", options={"width": 16, "branches": 3, "blocks": 1, "modules": 1}),
    "lite_hrnet": Model("lite_hrnet", options={"depth": 10, "width": 32, "branches": 3}),
    "unet": Model("unet", options={"width": 8, "depth": 3}),
    "mobilefacenet": Model("mobilefacenet"),
    "pfld": Model("pfld"),
    "resnet": Model("resnet", options={"width": 16, "output_stride": 16}, neck="fpn", neck_options=SMALL_NECK),
    "mobilenet_v3": Model("mobilenet_v3", neck="deconv", neck_options=SMALL_NECK),
    "shufflenet_v2": Model("shufflenet_v2", options={"width": 0.5}, neck="fpn", neck_options=SMALL_NECK)}
CODEC_OPTIONS = {"udp_combined": {"radius_factor": 0.15}}  # its default is made for maps of 64 cells


def asked_for(backbone: str, head: str, codec: str, input_hw: tuple[int, int] = (32, 32)) -> Recipe:
    recipe = tiny.recipe(input_hw, replace(SMALL[backbone], head=head))
    return replace(recipe, codec=CodecChoice(codec, CODEC_OPTIONS.get(codec, {})))


def fitting_trios() -> list[tuple[str, str, str]]:
    """Every backbone with every head and every codec that do not refuse each other."""
    trios = []
    for backbone, head, codec in product(BACKBONES, HEADS, LOSS_OF):
        try:
            spec_of(asked_for(backbone, head, codec))
        except RecipeError:
            continue
        trios.append((backbone, head, codec))
    return trios


TRIOS = fitting_trios()
each_trio = pytest.mark.parametrize(("backbone", "head", "codec"), TRIOS)


def test_every_backbone_head_and_loss_has_partners() -> None:
    backbones, heads, codecs = (set(names) for names in zip(*TRIOS, strict=True))
    assert (backbones, codecs) == (set(BACKBONES), set(LOSS_OF))
    assert heads == set(HEADS) - {"openpose"}  # of whole scenes: test_openpose_head


@pytest.mark.parametrize("codec", CODECS)
def test_the_head_follows_the_codec(codec: str) -> None:
    backbone = "mobilefacenet" if codec == "regression" else "hrnet_lite"
    spec = spec_of(asked_for(backbone, "", codec, (64, 64)))
    assert HEADS[spec.head].outputs == build_codec(codec, (64, 64), {}).outputs
    assert (spec.head == codec) == (codec in ("heatmap", "offset", "udp_combined", "simcc"))


@each_trio
def test_every_parameter_learns(backbone: str, head: str, codec: str) -> None:
    net = build(spec_of(asked_for(backbone, head, codec))).train()
    for layer in net.get_submodule("head.output").modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.3)
    outputs = net(torch.randn(4, 3, 32, 32))
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    dead = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert dead == []


@each_trio
def test_outputs_have_the_shapes_of_the_codecs_targets(backbone: str, head: str, codec: str) -> None:
    recipe = asked_for(backbone, head, codec, (64, 96))
    target = recipe.build_codec().encode(np.full((2, 17, 2), 20.0), np.full((2, 17), 2))
    outputs = build(spec_of(recipe)).eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(output.shape) for output in outputs] == [
        target.arrays[name].shape for name in recipe.build_codec().outputs]


# 32 pixels are enough for coordinates; maps need more cells.
SIZE_OF = {"regression": 32, "udp_combined": 96}


@each_trio
@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(backbone: str, head: str, codec: str, rng: np.random.Generator) -> None:
    side = SIZE_OF.get(codec, 64)
    recipe = asked_for(backbone, head, codec, (side, side))
    error, score = learnt_by_heart(recipe, loss_named(LOSS_OF[codec], recipe.contract()).of, rng)
    assert error < 0.15
    assert 0.2 < score < 1.5  # a softmax leaves a constant free


@each_trio
@pytest.mark.slow
def test_the_onnx_file_says_what_the_network_says(backbone: str, head: str, codec: str, tmp_path: Path) -> None:
    assert onnx_error(asked_for(backbone, head, codec, (64, 64)), tmp_path) < 1e-4


@pytest.mark.parametrize("head", ["integral", "gdconv"])
@pytest.mark.parametrize("skeleton", ["ibug68", "wflw98"])
def test_mobilefacenet_has_at_most_a_million_parameters(head: str, skeleton: str) -> None:
    recipe = asked_for("mobilefacenet", head, "regression", (112, 112))
    spec = spec_of(replace(recipe, data=replace(recipe.data, skeleton=skeleton)))
    assert spec.keypoints == int(skeleton[-2:])
    assert 800_000 < count_parameters(build(spec)) <= 1_000_000


def test_prelu_is_used_where_it_is_chosen() -> None:
    kinds = {}
    for activation in ("relu", "prelu"):
        net = build(ModelSpec("mobilefacenet", "integral", 68, (112, 112), {"activation": activation}))
        backbone = net.get_submodule("backbone")
        kinds[activation] = [type(m) for m in backbone.modules() if isinstance(m, (nn.ReLU, nn.PReLU))]
    assert set(kinds["relu"]) == {nn.ReLU}
    assert kinds["prelu"] == [nn.PReLU] * len(kinds["relu"])


@pytest.mark.parametrize(("model", "codec", "message"), [
    (Model("hrnet-lite"), "heatmap", "no backbone 'hrnet-lite'; did you mean 'hrnet_lite'"),
    (Model("hrnet_lite", "heatmaps"), "heatmap", "no head 'heatmaps'; did you mean 'heatmap'"),
    (Model("hrnet_lite", options={"widht": 8}), "heatmap", "no option .* 'widht'; did you mean 'width'"),
    (Model("hrnet_lite", options={"width": 12}), "heatmap", r"width 12, expected a multiple of 8"),
    (Model("hrnet_lite", options={"width": "32"}), "heatmap", "width: '32', expected int"),
    (Model("hrnet_lite", options={"branches": 5}), "heatmap", r"branches 5, expected 2 to 4"),
    (Model("hrnet_lite", options={"block": "thick"}), "heatmap", r"block 'thick', expected dense or depthwise"),
    (Model("mobilefacenet", options={"activation": "gelu"}), "regression", "'gelu', expected relu or prelu"),
    (Model("mobilefacenet", options={"activation": ["relu"]}), "regression", r"activation: \['relu'\], expected str"),
    (Model("hrnet_lite", "integral"), "heatmap",
     r"'integral' says \['coordinates'\], the codec expects \['heatmaps'\]"),
    (Model("mobilefacenet", "heatmap"), "regression", r"'heatmap' says \['heatmaps'\], the codec expects"),
    (Model("hrnet_lite", "integral"), "regression",
     "'integral' reads 2 or 3 feature maps, backbone 'hrnet_lite' gives 1"),
    (Model("mobilefacenet", "heatmap"), "heatmap", "'heatmap' reads 1 feature maps, backbone 'mobilefacenet' gives 3"),
])
def test_a_wrong_choice_is_refused_with_what_fits(model: Model, codec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(tiny.recipe(model=model, codec=codec))


@pytest.mark.parametrize("codec", ["heatmap", "offset", "integral", "udp_combined"])
def test_a_codec_of_another_stride_is_refused(codec: str) -> None:
    recipe = replace(tiny.recipe((128, 128)), codec=CodecChoice(codec, {"stride": 8}))
    with pytest.raises(RecipeError, match="stride: 8, but backbone 'hrnet_lite' has stride 4"):
        spec_of(recipe)


@pytest.mark.parametrize(("model", "codec", "input_hw"), [
    (Model("hrnet_lite"), "heatmap", (72, 64)), (Model("hrnet_lite", options={"branches": 4}), "heatmap", (64, 80)),
    (tiny.FACENET, "regression", (104, 112))])
def test_an_input_that_the_coarsest_map_does_not_divide_is_refused(
        model: Model, codec: str, input_hw: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match=r"input_hw.*multiples? of (16|32)"):
        spec_of(tiny.recipe(input_hw, model, codec))


@pytest.mark.parametrize("cell", [(0, 0), (5, 2), (7, 7), (3, 4)])
def test_integral_coordinates_of_one_cell_decode_to_the_centre_of_its_pixels(cell: tuple[int, int]) -> None:
    column, row = cell
    head = IntegralHead((64, 128, 128), (4, 8, 16), 3, (64, 96))
    width = 96 // 8
    certain = torch.full((1, 3, 64 // 8 * width), -1e4)
    certain[..., row * width + column] = 0.0
    coordinates = certain.softmax(-1) @ head.cells_xy.T
    keypoints_xy, _ = Regression((64, 96)).decode({"coordinates": coordinates.numpy()})
    centre = np.array([8 * column + 3.5, 8 * row + 3.5])  # of pixels 8 j to 8 j + 7
    np.testing.assert_allclose(keypoints_xy[0], np.tile(centre, (3, 1)), atol=1e-4)


def test_an_undecided_integral_head_says_the_middle_of_the_input() -> None:
    head = IntegralHead((64, 128, 128), (4, 8, 16), 3, (64, 96)).eval()
    nn.init.zeros_(head.output.weight)
    coordinates, = head((torch.zeros(1, 64, 16, 24), torch.randn(1, 128, 8, 12), torch.randn(1, 128, 4, 6)))
    keypoints_xy, _ = Regression((64, 96)).decode({"coordinates": coordinates.detach().numpy()})
    np.testing.assert_allclose(keypoints_xy[0], [[47.5, 31.5]] * 3, atol=1e-4)


@pytest.mark.parametrize(("input_hw", "cells"), [((256, 192), 16 * 12), ((72, 64), 5 * 4)])
@torch.no_grad()
def test_simcc_flattens_a_map_of_stride_16_rounded_up(input_hw: tuple[int, int], cells: int) -> None:
    options = {"width": 8, "branches": 2, "blocks": 1, "modules": 1}  # whose stride 8 divides 72, as 16 does not
    net = build(ModelSpec("hrnet_lite", "simcc", 17, input_hw, options, {"bins_x": 12, "bins_y": 34})).eval()
    assert net.get_submodule("head.output.x").in_channels == cells
    simcc_x, simcc_y = net(torch.zeros(2, 3, *input_hw))
    assert (simcc_x.shape, simcc_y.shape) == ((2, 17, 12), (2, 17, 34))


@torch.no_grad()
def test_keypoints_with_the_same_map_have_the_same_bins() -> None:
    net = build(spec_of(asked_for("hrnet_lite", "simcc", "simcc", (64, 96)))).eval()
    maps = net.get_submodule("head.output.maps")
    assert isinstance(maps, nn.Conv2d)
    maps.weight[5], maps.bias[5] = maps.weight[3], maps.bias[3]  # type: ignore[index]
    for bins in net(torch.randn(2, 3, 64, 96)):
        torch.testing.assert_close(bins[:, 5], bins[:, 3])
        assert (bins[:, 5] - bins[:, 4]).abs().max() > 1e-3


def test_macs_equal_a_count_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
                        nn.Conv2d(8, 5, 1))
    by_hand = 8 * 8 * (8 * 3 * 9) + 8 * 8 * (8 * 9) + 8 * 8 * (5 * 8)
    assert count_macs(net, (16, 16)) == by_hand
    assert count_parameters(net) == (8 * 3 * 9 + 8) + (8 * 9 + 8) + (5 * 8 + 5)
    assert net.training  # as it was before


@pytest.mark.parametrize("input_hw", [(64, 64), (128, 96), (256, 192)])
@pytest.mark.parametrize("branches", [2, 3, 4])
def test_trap_hrnet_keeps_a_quarter_of_the_resolution(branches: int, input_hw: tuple[int, int]) -> None:
    options = {"width": 8, "branches": branches, "blocks": 1, "modules": 1}
    net = build(ModelSpec("hrnet_lite", "heatmap", 17, input_hw, options)).eval()
    with torch.no_grad():
        maps, = net(torch.zeros(1, 3, *input_hw))
    assert maps.shape[1:] == (17, *Heatmap(input_hw).grid.map_hw)


@torch.no_grad()
def test_a_translated_input_translates_the_maps(rng: np.random.Generator) -> None:
    """By whole cells of the coarsest branch, away from the border: no branch is shifted against another."""
    options = {"width": 8, "branches": 3, "blocks": 1, "modules": 1}
    net = build(ModelSpec("hrnet_lite", "heatmap", 17, (320, 320), options)).eval()
    tiny.enliven(net)
    scene = rng.normal(size=(1, 3, 320, 336)).astype(np.float32)
    left, right = (net(torch.from_numpy(np.ascontiguousarray(scene[..., x:x + 320])))[0].numpy() for x in (0, 16))
    inner = slice(30, 46)  # 120 px from every border, the reach of the network is about 90
    there, here = left[..., inner, 34:50], right[..., inner, 30:46]
    assert there.std() > 0.1
    np.testing.assert_allclose(here, there, atol=1e-4 * float(np.abs(there).max()))
