"""Every layer that the TFLite export knows says what it says in torch; every other is refused by its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekp.errors import ArtifactError
from optimize.calibration import calibrate
from optimize.ptq import set_weight_scales
from train.models.quantized import QuantizationSpec, insert_fake_quantizers
from train.models.shuffle import channel_shuffle, halves

pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")

from deploy.export.to_tflite import to_tflite
from deploy.runtime.tflite_session import TFLiteSession

HW = (10, 7)  # an even and an odd side: paddings differ
CHANNELS = 8


class Net(nn.Module):
    """A 1 x 1 convolution to 8 channels, then what is to be tested; the result as a tuple."""

    def __init__(self, *layers: nn.Module, then: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, CHANNELS, 1)
        self.layers = nn.Sequential(*layers)
        self.then = then

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.layers(self.first(x))
        return (x if self.then is None else self.then(x),)


def difference(net: nn.Module) -> float:
    """Largest difference between file and network on noise, of the largest output."""
    x = np.random.default_rng(0).normal(size=(2, 3, *HW)).astype(np.float32)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(x))[0].numpy()
    found = TFLiteSession(to_tflite(net, HW, ("out",)).data, ("out",), "here").infer(x)["out"]
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def prelu() -> nn.PReLU:
    layer = nn.PReLU(CHANNELS)
    nn.init.uniform_(layer.weight, -1, 1)
    return layer


LAYERS = {
    "stride": lambda: nn.Conv2d(8, 6, 3, 2, 1), "5 x 5": lambda: nn.Conv2d(8, 6, 5, 2, 2, bias=False),
    "7 x 7": lambda: nn.Conv2d(8, 6, 7, padding=3), "valid": lambda: nn.Conv2d(8, 6, 3),
    "wide": lambda: nn.Conv2d(8, 6, (1, 5), padding=(0, 2)), "wider than same": lambda: nn.Conv2d(8, 6, 3, padding=2),
    "dilated": lambda: nn.Conv2d(8, 6, 3, padding=2, dilation=2),
    "dilated stride": lambda: nn.Conv2d(8, 6, 3, 2, padding=2, dilation=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, 2, 1, groups=8), "twice as many": lambda: nn.Conv2d(8, 16, 3, groups=8),
    "whole map": lambda: nn.Conv2d(8, 8, HW, groups=8), "transposed": lambda: nn.ConvTranspose2d(8, 6, 4, 2, 1),
    "folded": lambda: nn.Sequential(nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
    "relu": nn.ReLU, "relu6": nn.ReLU6, "prelu": prelu, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "largest": lambda: nn.MaxPool2d(3, 2, 1), "mean": lambda: nn.AvgPool2d(2),
    "largest of a relu": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "all": lambda: nn.AdaptiveAvgPool2d(1), "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    "bilinear by 4": lambda: nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False),
    "linear": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_says_what_it_says_in_torch(name: str) -> None:
    torch.manual_seed(1)
    assert difference(Net(LAYERS[name]())) < 1e-5


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "a shortcut": lambda x: torch.relu(x + functional.relu(x)), "a product": lambda x: x * torch.sigmoid(x),
    "read twice": lambda x: functional.relu(x) - x,
    "a gate": lambda x: x * x.mean((2, 3), keepdim=True), "a number": lambda x: (2 * x + 1) / 4,
    "side by side": lambda x: torch.cat([x, x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1),
    "shuffle": lambda x: channel_shuffle(torch.cat(halves(x)[::-1], 1), 2),
    "parts": lambda x: torch.cat(x.split([1, 5, 2], 1)[::-1], 1),
    "flat": lambda x: x.flatten(1), "flat maps": lambda x: x.reshape(-1, CHANNELS, HW[0] * HW[1]),
    "permuted": lambda x: x.permute(0, 3, 1, 2), "swapped": lambda x: x.flatten(2).transpose(1, 2),
    "expectation": lambda x: (x.flatten(2).softmax(-1)[:, :, None] * torch.ones(2, HW[0] * HW[1])).sum(-1),
    "attention": lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
    "norm": lambda x: x / x.square().mean(1, keepdim=True).clamp_min(1e-3).sqrt(),
    "fused": lambda x: torch.addcmul(x, x, torch.sigmoid(x))}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_says_in_torch(name: str) -> None:
    assert difference(Net(then=FUNCTIONS[name])) < 1e-5


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "groups": (nn.Conv2d(8, 8, 3, groups=2), "a convolution in groups"),
    "reflected": (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "another padding than zeros"),
    "transposed": (nn.ConvTranspose2d(8, 8, 3, 2, 1), "kernel is not twice its even stride"),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), "upsampling of mode 'bicubic'"),
    "corners": (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "upsampling of mode 'bilinear'"),
    "a half more": (nn.Upsample(scale_factor=1.5), "upsampling of mode 'nearest' by 1.5"),
    "rounds up": (nn.MaxPool2d(2, ceil_mode=True), "a pooling that rounds up"),
    "counts padding": (nn.AvgPool2d(3, padding=1), "a mean that counts padding"),
    "quarters": (nn.AdaptiveAvgPool2d(2), "an adaptive mean to 2"), "gelu": (nn.GELU(), "no counterpart of GELU")}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_without_counterpart_is_refused_by_name(name: str) -> None:
    layer, reason = REFUSED[name]
    with pytest.raises(ArtifactError, match=rf"tflite: layers\.0: .*{reason}.*; export this model for another target"):
        to_tflite(Net(layer), HW, ("out",))


@pytest.mark.parametrize(("function", "reason"), [
    (lambda x: torch.cumsum(x, 1), "cumsum: no counterpart of 'cumsum'"),
    (lambda x: x[:, :4], "the part .* of a value"),
    (lambda x: torch.cat(x.chunk(3, 1), 1), "8 channels in 3 unequal parts"),
    (lambda x: torch.add(x, x, alpha=2), "'add' with arguments that are not known here")])
def test_a_function_without_counterpart_is_refused(function: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        to_tflite(Net(then=function), HW, ("out",))


@pytest.mark.parametrize(("int16", "in_float"), [((), ()), (("first",), ("first", "layers.0"))])
def test_a_result_of_16_bits_is_computed_in_float(int16: tuple[str, ...], in_float: tuple[str, ...]) -> None:
    net = insert_fake_quantizers(Net(nn.Conv2d(CHANNELS, CHANNELS, 1)), QuantizationSpec((), int16))
    set_weight_scales(net)
    calibrate(net, torch.randn(2, 3, *HW, generator=torch.Generator().manual_seed(0)), "minmax")
    assert to_tflite(net, HW, ("out",)).float_layers == in_float
    assert difference(net) < 0.02  # steps of 1 / 127 of the largest value
