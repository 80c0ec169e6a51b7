"""Networks: everything in them learns, nothing is shifted, and a wrong choice is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.codecs import Heatmap, Regression
from edgekp.errors import RecipeError
from edgekp.recipe import CodecChoice, Model, Recipe
from tests import tiny
from train.losses import LOSSES
from train.models import BACKBONES, HEADS, ModelSpec, build, spec_of
from train.models.cost import count_macs, count_parameters
from train.models.heads import IntegralHead
from train.schedule import learning_rate

CODEC_OF = {"heatmaps": "heatmap", "coordinates": "regression"}
OPTIONS = {"hrnet_lite": {"width": 16, "branches": 3, "blocks": 1, "modules": 1},  # 17 maps need as many features
           "mobilefacenet": {}}


def asked_for(backbone: str, head: str, input_hw: tuple[int, int] = (32, 32)) -> Recipe:
    return tiny.recipe(input_hw, Model(backbone, head, OPTIONS[backbone]), CODEC_OF[HEADS[head].outputs[0]])


def fitting_pairs() -> list[tuple[str, str]]:
    """Every backbone with every head that does not refuse it."""
    pairs = []
    for backbone in BACKBONES:
        for head in HEADS:
            try:
                spec_of(asked_for(backbone, head))
            except RecipeError:
                continue
            pairs.append((backbone, head))
    return pairs


STEPS = {"hrnet_lite": 150, "mobilefacenet": 80}
PAIRS = fitting_pairs()
each_pair = pytest.mark.parametrize(("backbone", "head"), PAIRS)


def test_every_backbone_and_every_head_has_a_partner() -> None:
    assert {backbone for backbone, _ in PAIRS} == set(BACKBONES)
    assert {head for _, head in PAIRS} == set(HEADS)


@each_pair
def test_every_parameter_learns(backbone: str, head: str) -> None:
    net = build(spec_of(asked_for(backbone, head))).train()
    tiny.enliven(net)
    output, = net(torch.randn(4, 3, 32, 32))
    output.square().sum().backward()
    dead = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert dead == []


@each_pair
@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(backbone: str, head: str, rng: np.random.Generator) -> None:
    recipe = asked_for(backbone, head, (64, 64) if head == "heatmap" else (32, 32))
    h, w = recipe.input.input_hw
    codec = recipe.build_codec()
    inputs = torch.from_numpy(rng.normal(size=(8, 3, h, w)).astype(np.float32))
    keypoints_xy = rng.uniform((0.2 * w, 0.2 * h), (0.8 * w, 0.8 * h), (8, 17, 2))
    target = codec.encode(keypoints_xy, np.full((8, 17), 2))
    loss_of = LOSSES["mse" if isinstance(codec, Heatmap) else "wing"]
    goal, weight = torch.from_numpy(target.arrays[codec.outputs[0]]), torch.from_numpy(target.weight)
    net = build(spec_of(recipe)).train()
    optimizer = torch.optim.Adam(net.parameters())
    losses = []
    for step in range(STEPS[backbone]):
        optimizer.param_groups[0]["lr"] = learning_rate(step, STEPS[backbone], 1e-2, 10)
        output, = net(inputs)
        loss = loss_of(output, goal, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    found_xy, _ = codec.decode({codec.outputs[0]: output.detach().numpy()})
    error_px = np.linalg.norm(found_xy - keypoints_xy, axis=-1).mean()
    mean_pose_px = np.linalg.norm(keypoints_xy.mean(0) - keypoints_xy, axis=-1).mean()  # what knows no sample gets
    assert losses[-1] < 0.5 * losses[0]  # wing is steep near zero
    assert error_px < 0.15 * mean_pose_px


@pytest.mark.parametrize("head", ["integral", "gdconv"])
@pytest.mark.parametrize("skeleton", ["ibug68", "wflw98"])
def test_mobilefacenet_has_at_most_a_million_parameters(head: str, skeleton: str) -> None:
    recipe = asked_for("mobilefacenet", head, (112, 112))
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
    (Model("hrnet_lite", options={"width": 12}), "heatmap", r"width 12 \(a multiple of 8\)"),
    (Model("hrnet_lite", options={"width": "32"}), "heatmap", "width: '32', expected int"),
    (Model("hrnet_lite", options={"branches": 5}), "heatmap", r"branches 5 \(2 to 4\)"),
    (Model("hrnet_lite", options={"block": "thick"}), "heatmap", r"block 'thick' \(dense or depthwise\)"),
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


def test_a_codec_of_another_stride_is_refused() -> None:
    recipe = replace(tiny.recipe(), codec=CodecChoice("heatmap", {"stride": 8}))
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
    coordinates = certain.softmax(-1) @ head.cells_xy
    keypoints_xy, _ = Regression((64, 96)).decode({"coordinates": coordinates.numpy()})
    centre = np.array([8 * column + 3.5, 8 * row + 3.5])  # of pixels 8 j to 8 j + 7
    np.testing.assert_allclose(keypoints_xy[0], np.tile(centre, (3, 1)), atol=1e-4)


def test_an_undecided_integral_head_says_the_middle_of_the_input() -> None:
    head = IntegralHead((64, 128, 128), (4, 8, 16), 3, (64, 96)).eval()
    nn.init.zeros_(head.output.weight)
    coordinates = head((torch.zeros(1, 64, 16, 24), torch.randn(1, 128, 8, 12), torch.randn(1, 128, 4, 6)))
    keypoints_xy, _ = Regression((64, 96)).decode({"coordinates": coordinates.detach().numpy()})
    np.testing.assert_allclose(keypoints_xy[0], [[47.5, 31.5]] * 3, atol=1e-4)


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
    assert maps.shape[1:] == (17, *Heatmap(input_hw).map_hw)


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
