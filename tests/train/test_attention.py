"""Attention: equal to the papers' formulas, at work in every backbone that offers it, and absent unless asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from edgekp.errors import RecipeError
from edgekp.recipe import Model
from edgekp.sample import Float
from tests import tiny
from tests.train.promises import dead_parameters, onnx_error
from train.models import build, spec_of
from train.models.attention import CBAM, SE, attention_named
from train.models.cost import count_parameters

SMALL = {"width": 8, "branches": 2, "blocks": 1, "modules": 1}
MODELS = {
    "resnet": Model("resnet", options={"width": 8, "output_stride": 16}, neck="fpn", neck_options={"channels": 16}),
    "resnet50": Model("resnet", options={"depth": 50, "width": 8}, neck="deconv", neck_options={"channels": 16}),
    "hrnet": Model("hrnet_lite", options=SMALL),
    "hrnet-depthwise": Model("hrnet_lite", options=SMALL | {"block": "depthwise"}),
    "mobilefacenet": Model("mobilefacenet", neck="fpn", neck_options={"channels": 16}),
}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
each_attention = pytest.mark.parametrize("attention", ["se", "cbam"])


def attending(model: Model, attention: str) -> tiny.Recipe:
    return tiny.recipe(model=Model(model.backbone, model.head, model.options | {"attention": attention}, model.neck,
                                   model.neck_options))


def sigmoid(x: Float) -> Float:
    return np.asarray(1 / (1 + np.exp(-x)))


def perceptron(gate: nn.Module, summary: Float) -> Float:
    """W1 relu(W0 s + b0) + b1 of (N, C)."""
    (w0, b0), (w1, b1) = ([tensor.detach().double().numpy() for tensor in (gate[i].weight, gate[i].bias)]  # type: ignore[index]
                          for i in (0, 2))
    hidden = np.maximum(summary @ w0[..., 0, 0].T + b0, 0)
    return np.asarray(hidden @ w1[..., 0, 0].T + b1)


@pytest.mark.parametrize(("channels", "hidden"), [(8, 8), (64, 8), (256, 16)])
@torch.no_grad()
def test_se_equals_its_formula(rng: np.random.Generator, channels: int, hidden: int) -> None:
    layer = SE(channels)
    x = rng.normal(size=(2, channels, 6, 5))
    scale = sigmoid(perceptron(layer.gate, x.mean((2, 3))))
    np.testing.assert_allclose(layer(torch.from_numpy(x).float()).numpy(), x * scale[..., None, None], atol=1e-5)
    assert layer.gate[0].out_channels == hidden  # a sixteenth, but never fewer than eight


@torch.no_grad()
def test_cbam_equals_its_formulas(rng: np.random.Generator) -> None:
    """Equations 1 to 3 of the paper: channels first, then places, each gate multiplied onto what it has seen."""
    layer = CBAM(16)
    x = rng.normal(size=(2, 16, 9, 11))
    channel = sigmoid(perceptron(layer.gate, x.mean((2, 3))) + perceptron(layer.gate, x.max((2, 3))))
    refined = x * channel[..., None, None]
    summary = np.pad(np.stack([refined.mean(1), refined.max(1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    weight, bias = layer.where.weight.double().numpy()[0], layer.where.bias.double().numpy()[0]  # type: ignore[union-attr]
    place = sigmoid(np.einsum("nchwij,cij->nhw", sliding_window_view(summary, (7, 7), (2, 3)), weight) + bias)
    np.testing.assert_allclose(layer(torch.from_numpy(x).float()).numpy(), refined * place[:, None], atol=1e-5)


@each_model
@each_attention
def test_without_attention_no_weight_has_another_name(model: Model, attention: str) -> None:
    """So that checkpoints made before there was a choice still load."""
    plain, chosen, gated = (build(spec_of(recipe)).state_dict() for recipe in (
        tiny.recipe(model=model), attending(model, "none"), attending(model, attention)))
    assert {name: tensor.shape for name, tensor in plain.items()} == {
        name: tensor.shape for name, tensor in chosen.items()}
    assert plain.keys() < gated.keys()
    assert all(".gate." in name or ".where." in name for name in gated.keys() - plain.keys())


@each_model
@each_attention
@torch.no_grad()
def test_every_gate_is_at_work(model: Model, attention: str) -> None:
    net, _, _ = tiny.network(attending(model, attention))
    x = torch.randn(1, 3, 64, 64)
    before, = net(x)
    gates = [module for module in net.modules() if isinstance(module, (SE, CBAM))]
    blocks = sum(name.endswith(".body") for name, _ in net.named_modules())
    assert len(gates) == blocks > 0
    for gate in gates:
        assert isinstance(gate.gate[2], nn.Conv2d)
        bias = gate.gate[2].bias
        bias -= 3
        assert (net(x)[0] - before).abs().max() > 1e-5 * before.abs().max()
        bias += 3


@each_model
@each_attention
def test_every_parameter_learns(model: Model, attention: str) -> None:
    assert dead_parameters(build(spec_of(attending(model, attention))), side=64) == []


@pytest.mark.slow
@each_model
@each_attention
def test_onnx_computes_the_same(tmp_path: Path, model: Model, attention: str) -> None:
    assert onnx_error(attending(model, attention), tmp_path) < 1e-4


@each_attention
def test_mobilefacenet_stays_below_a_million_parameters(attention: str) -> None:
    recipe = tiny.recipe((112, 112), Model("mobilefacenet", "integral", {"attention": attention}), "regression")
    assert count_parameters(build(spec_of(recipe))) < 1_000_000


@each_model
def test_an_unknown_attention_is_refused(model: Model) -> None:
    with pytest.raises(RecipeError, match=r"model\.options: no attention 'eca'; .*known: none, se, cbam"):
        spec_of(attending(model, "eca"))


def test_no_attention_is_no_change() -> None:
    x = torch.randn(1, 8, 4, 4)
    assert attention_named("none", 8)(x) is x
