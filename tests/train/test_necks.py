"""Necks: every map that is read counts, nothing is shifted on its way, and what does not fit is refused."""

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
from tests.train.promises import dead_parameters, learnt_by_heart, lively, onnx_error, translated_maps
from train.losses import heatmap_offset, mse
from train.models import build, spec_of
from train.models.necks import FPN, Deconv
from train.models.parts import Neck

WIDTHS, STRIDES = (8, 16, 24), (4, 8, 16)
RESNET = {"depth": 18, "width": 8}
BACKBONES = {"resnet": RESNET, "resnet-dilated": RESNET | {"output_stride": 8}, "mobilefacenet": {}}
each_upsampling = pytest.mark.parametrize("upsample", ["bilinear", "transposed"])
each_neck = pytest.mark.parametrize("neck", ["fpn", "deconv"])


def asked_for(neck: str, backbone: str = "resnet", side: int = 64, codec: str = "heatmap",
              **neck_options: object) -> tiny.Recipe:
    model = Model(backbone.partition("-")[0], options=BACKBONES[backbone], neck=neck,
                  neck_options={"channels": 16} | neck_options)
    return tiny.recipe((side, side), model, codec)


def maps(side: int = 64) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(1, width, side // stride, side // stride)
                 for width, stride in zip(WIDTHS, STRIDES, strict=True))


def necks(upsample: str) -> dict[str, Neck]:
    return {"fpn": FPN(WIDTHS, STRIDES, channels=8, upsample=upsample),  # type: ignore[arg-type]
            "deconv": Deconv(WIDTHS, STRIDES, channels=8, upsample=upsample)}  # type: ignore[arg-type]


@each_neck
@each_upsampling
@torch.no_grad()
def test_the_one_map_has_the_width_and_stride_that_are_promised(neck: str, upsample: str) -> None:
    made = necks(upsample)[neck].eval()
    found, = made(maps())
    assert (made.widths, made.strides) == ((8,), (4,))
    assert found.shape == (1, 8, 16, 16)


@each_upsampling
@torch.no_grad()
def test_fpn_reads_every_map_and_deconv_the_coarsest(upsample: str) -> None:
    for name, neck in necks(upsample).items():
        lively(neck)
        features = maps()
        before, = neck(features)
        changes = []
        for index in range(len(features)):
            without = tuple(torch.zeros_like(x) if i == index else x for i, x in enumerate(features))
            changes.append(bool((neck(without)[0] - before).abs().max() > 1e-2 * before.abs().max()))
        assert changes == {"fpn": [True, True, True], "deconv": [False, False, True]}[name]


@pytest.mark.parametrize(("neck", "level"), [("fpn", 0), ("fpn", 1), ("fpn", 2), ("deconv", 2)])
@each_upsampling
@torch.no_grad()
def test_what_one_cell_says_arrives_around_its_centre(neck: str, upsample: str, level: int) -> None:
    """With equal weights everywhere the centroid of a cell's response is the centre of the cell's pixels."""
    made = necks(upsample)[neck].eval()
    for module in made.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.constant_(module.weight, 0.01)
    features = [torch.zeros_like(x) for x in maps(256)]
    row, column = 128 // STRIDES[level] + 1, 128 // STRIDES[level] - 1  # away from the border
    features[level][..., row, column] = 1.0
    response = made(tuple(features))[0][0, 0].double().numpy()
    cells = np.arange(len(response))
    centroid = [float((response.sum(axis) * cells).sum() / response.sum()) for axis in (1, 0)]
    centres_px = [4 * cell + 1.5 for cell in centroid]
    expected_px = [STRIDES[level] * cell + (STRIDES[level] - 1) / 2 for cell in (row, column)]
    np.testing.assert_allclose(centres_px, expected_px, atol=1e-3)


@torch.no_grad()
def test_fpn_keeps_the_detail_of_the_finest_map() -> None:
    """A cell of the finest map is seen by itself and its neighbours, one of the coarsest map by many more."""
    neck = lively(FPN(WIDTHS, STRIDES, channels=8))
    seen = []
    for level in (0, 2):
        features = list(maps(128))
        before, = neck(tuple(features))
        features[level] = features[level].clone()
        features[level][..., 4, 4] += 5.0
        seen.append(int(((neck(tuple(features))[0] - before).abs().amax(1) > 1e-5).sum()))
    assert seen[0] == 9
    assert seen[1] > 64


@pytest.mark.parametrize(("backbone", "stride", "doublings"), [
    ("resnet", 4, 3), ("resnet-dilated", 4, 1), ("mobilefacenet", 4, 2), ("resnet", 8, 2), ("mobilefacenet", 2, 3)])
@each_upsampling
def test_deconv_doubles_as_often_as_it_must(backbone: str, stride: int, doublings: int, upsample: str) -> None:
    recipe = asked_for("deconv", backbone, stride=stride, upsample=upsample)
    net = build(spec_of(replace(recipe, codec=CodecChoice("heatmap", {"stride": stride}))))
    kind = nn.ConvTranspose2d if upsample == "transposed" else nn.Upsample
    assert sum(isinstance(module, kind) for module in net.modules()) == doublings
    assert net(torch.zeros(2, 3, 64, 64))[0].shape == (2, 17, 64 // stride, 64 // stride)


@each_neck
@each_upsampling
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_parameter_learns(neck: str, upsample: str, backbone: str) -> None:
    assert dead_parameters(build(spec_of(asked_for(neck, backbone, upsample=upsample))), side=64) == []


@each_neck
@each_upsampling
@torch.no_grad()
def test_a_translated_input_translates_the_map(rng: np.random.Generator, neck: str, upsample: str) -> None:
    """By one cell of the coarsest map. ResNet-18 reaches 217 pixels to each side, a neck from stride 8 less than 20."""
    net = build(spec_of(asked_for(neck, "resnet-dilated", 544, upsample=upsample)))
    tiny.enliven(net)
    (before, after), = translated_maps(net.eval(), rng, 544, 8, (240, 296))
    assert before.std() > 0.01
    np.testing.assert_allclose(after, before, atol=1e-4 * float(np.abs(before).max()))


@each_neck
@each_upsampling
def test_onnx_computes_the_same(tmp_path: Path, neck: str, upsample: str) -> None:
    assert onnx_error(asked_for(neck, upsample=upsample), tmp_path) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("neck", "codec", "loss"), [
    ("fpn", "offset", heatmap_offset), ("deconv", "heatmap", mse)])  # the first is the "6-2 module"
def test_eight_samples_are_learnt_by_heart(neck: str, codec: str, loss: object, rng: np.random.Generator) -> None:
    recipe = asked_for(neck, codec=codec, channels=64)
    error, score = learnt_by_heart(recipe, loss, rng)  # type: ignore[arg-type]
    assert error < 0.15
    assert 0.2 < score < 1.3


@pytest.mark.parametrize("backbone", [tiny.HRNET, Model("unet", options={"width": 8})])
def test_trap_an_fpn_over_a_single_map_is_refused(backbone: Model) -> None:
    with pytest.raises(RecipeError, match=r"'fpn' merges maps .* the backbone gives strides \[4\]"):
        spec_of(tiny.recipe(model=replace(backbone, neck="fpn")))


def test_an_fpn_over_maps_of_equal_stride_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the backbone gives strides \[8, 8\]"):
        FPN((8, 8), (8, 8))


@pytest.mark.parametrize(("neck", "options", "message"), [
    ("deconv", {"stride": 32}, "stride: 32, but 'deconv' doubles a map of stride 32 to one of 1, 2, 4, 8, 16"),
    ("deconv", {"stride": 6}, "stride: 6, but 'deconv' doubles"),
    ("deconv", {"stride": 0}, "stride: 0, but 'deconv' doubles"),
    ("deconv", {"channels": 0}, "neck_options.channels: 0, expected 1 or more"),
    ("fpn", {"channels": 0}, "neck_options.channels: 0, expected 1 or more"),
    ("fpn", {"upsample": "nearest"}, "neck_options.upsample: no upsampling 'nearest'; .*known: transposed, bilinear"),
    ("deconv", {"upsample": "linear"}, "no upsampling 'linear'; did you mean 'bilinear'"),
    ("fpn", {"stride": 8}, "no option of neck 'fpn' 'stride'; .*known: channels, upsample"),
    ("deconv", {"channels": 64.0}, "channels: 64.0, expected int"),
    ("decnov", {}, "no neck 'decnov'; did you mean 'deconv'"),
])
def test_a_wrong_option_is_refused(neck: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(asked_for(neck, **options))


def test_a_neck_of_another_stride_than_the_codec_is_refused() -> None:
    with pytest.raises(RecipeError, match="stride: 4, but neck 'deconv' has stride 8"):
        spec_of(asked_for("deconv", stride=8))
