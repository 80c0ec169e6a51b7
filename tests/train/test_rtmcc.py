"""The RTMCC head: its attention is the formula, keypoints learn from each other, and half precision is enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe import Model
from edgekp.sample import Float
from tests import tiny
from tests.train.promises import dead_parameters, learnt_by_heart, onnx_error
from train.losses import kl
from train.models import build, spec_of
from train.models.rtmcc import GatedAttention, RTMCCHead, ScaleNorm

BACKBONE = {"width": 16, "branches": 2, "blocks": 1, "modules": 1}


def asked_for(input_hw: tuple[int, int] = (64, 64), **options: int) -> tiny.Recipe:
    return tiny.recipe(input_hw, Model("hrnet_lite", "rtmcc", BACKBONE, head_options=options), "simcc")


def head(hidden: int = 32) -> RTMCCHead:
    return RTMCCHead((16,), (16,), 5, (64, 96), bins_x=192, bins_y=128, hidden=hidden).eval()


def root_mean_square_norm(x: Float, gain: float) -> Float:
    return gain * x / np.sqrt(np.maximum((x**2).mean(-1, keepdims=True), 1e-6))


def gated_attention(x: Float, unit: GatedAttention) -> Float:
    """Hua et al., ICML 2022, with RTMPose's division by the root of the query's length; x is (N, K, hidden)."""
    values = {name: tensor.detach().double().numpy().squeeze() for name, tensor in unit.state_dict().items()}
    normed = root_mean_square_norm(x, float(values["norm.gain"]))
    linear = [normed @ values[f"{name}.weight"].T for name in ("gate", "value", "base")]
    gate, value, base = (z / (1 + np.exp(-z)) for z in linear)
    query, key = (base * values["scale"][i] + values["shift"][i] for i in (0, 1))
    weights = np.maximum(np.einsum("nis,njs->nij", query, key) / np.sqrt(unit.narrow), 0) ** 2
    mixed = (gate * np.einsum("nij,nje->nie", weights, value)) @ values["mix.weight"].T
    return np.asarray(mixed + values["shortcut"] * x)


@torch.no_grad()
def test_attention_is_the_formula_of_the_paper(rng: np.random.Generator) -> None:
    unit = GatedAttention(16)
    for tensor in unit.state_dict().values():
        tensor.normal_(0, 1.0)
    unit.shortcut.fill_(1.0)
    x = rng.normal(size=(3, 7, 16))
    found = unit(torch.from_numpy(x.transpose(0, 2, 1)[..., None].astype(np.float32)))
    expected = gated_attention(x, unit)
    assert np.abs(expected - x).mean() > 1.0  # beside the shortcut it does something
    np.testing.assert_allclose(found[..., 0].transpose(1, 2), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_a_keypoint_learns_from_the_map_of_another() -> None:
    made = head()
    feature = torch.randn(2, 16, 4, 6)
    before = made((feature,))
    bias = made.output.maps.bias
    assert isinstance(bias, torch.Tensor)
    made.output.maps.weight[3] *= -1
    for one, other in zip(made((feature,)), before, strict=True):
        assert (one - other).abs().amax((0, 2)).min() > 1e-4  # all five keypoints
    made.output.attend.mix.weight.zero_()  # without attention, each keypoint knows its own map alone
    alone = made((feature,))
    made.output.maps.weight[3] *= -1
    for one, other in zip(made((feature,)), alone, strict=True):
        assert (one - other).abs().amax((0, 2)).gt(0).tolist() == [False, False, False, True, False]


@torch.no_grad()
def test_the_order_of_the_keypoints_means_nothing_to_it(rng: np.random.Generator) -> None:
    """Why there is no bias for relative positions: keypoints in another order say the same, in that order."""
    unit, order = GatedAttention(16), rng.permutation(7)
    x = torch.randn(2, 16, 7, 1)
    torch.testing.assert_close(unit(x[:, :, order]), unit(x)[:, :, order])


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-6, 1.0, 1e6])
def test_the_norm_is_finite_with_its_gradient_for_maps_of_every_size(size: float) -> None:
    norm = ScaleNorm()
    x = (size * torch.randn(2, 48, 5, 1)).requires_grad_()
    out = norm(x)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    if size >= 1:
        torch.testing.assert_close(out.square().mean(1), torch.ones(2, 5, 1))


@torch.no_grad()
def test_bfloat16_says_the_same_bins_up_to_its_rounding() -> None:
    """Eight bits of mantissa: 0.4 % for each of the eight products in a row, 3 % in all."""
    made = head(hidden=256)
    feature = 30 * torch.randn(4, 16, 4, 6)
    exact = made((feature,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = made((feature,))
    for one, other in zip(rounded, exact, strict=True):
        assert (one.float() - other).abs().max() < 0.03 * other.abs().max()


def test_every_parameter_gets_a_gradient() -> None:
    assert dead_parameters(build(spec_of(asked_for())), side=64) == []


@pytest.mark.parametrize("hidden", [32, 256])
def test_the_onnx_file_says_what_the_network_says(tmp_path: Path, hidden: int) -> None:
    assert onnx_error(asked_for(hidden=hidden), tmp_path) < 1e-4


@torch.no_grad()
def test_its_map_has_a_large_kernel_and_keeps_its_cells() -> None:
    made = head()
    assert made.output.maps.kernel_size == (7, 7)
    assert made.output.maps(torch.zeros(1, 16, 4, 6)).shape == (1, 5, 4, 6)
    assert made.output.embed.in_channels == 4 * 6


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(rng: np.random.Generator) -> None:
    error, score = learnt_by_heart(asked_for(hidden=64), kl, rng)
    assert error < 0.15
    assert 0.2 < score < 1.3


def test_simcc_stays_the_first_choice_of_its_codec() -> None:
    assert spec_of(tiny.recipe(codec="simcc")).head == "simcc"


@pytest.mark.parametrize("hidden", [0, -8, 100])
def test_an_odd_length_of_embedding_is_refused(hidden: int) -> None:
    with pytest.raises(RecipeError, match=f"hidden: {hidden}, expected a multiple of 8"):
        spec_of(asked_for(hidden=hidden))


def test_no_part_of_it_is_random_in_training() -> None:
    made = head().train()
    assert not any(isinstance(module, nn.Dropout) for module in made.modules())
    feature = torch.randn(2, 16, 4, 6)
    assert all(torch.equal(one, other) for one, other in zip(made((feature,)), made((feature,)), strict=True))
