"""Scales of activations, from what a network computes on training images. Knows no graph and no file format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from edgekp.sample import Float
from train.models.quantized import INT8_MAX, FakeQuantizer, fake_quantizers, set_enabled

BINS = 2048
SMALLEST = 1e-6  # a tensor that is zero on every image still needs a scale
PERCENTILE = 0.9999
CANDIDATES = 100  # clipping thresholds that the mse observer tries
BATCH = 32


def minmax(histogram: Float, largest: float) -> float:
    """Clip nothing that was seen."""
    return largest


def percentile(histogram: Float, largest: float) -> float:
    """Clip the largest 0.01 % of the values."""
    share = np.cumsum(histogram) / histogram.sum()
    return float((np.searchsorted(share, PERCENTILE) + 1) / BINS * largest)


def mse(histogram: Float, largest: float) -> float:
    """The threshold with the smallest squared error: rounding below it, clipping above it."""
    values = (np.arange(BINS) + 0.5) / BINS * largest
    thresholds = np.linspace(0.2, 1.0, CANDIDATES)[:, None] * largest
    steps = thresholds / INT8_MAX
    rounded = np.minimum(np.rint(values / steps), INT8_MAX) * steps
    errors = ((rounded - values) ** 2 * histogram).sum(1)
    return float(thresholds[errors.argmin(), 0])


OBSERVERS: dict[str, Callable[[Float, float], float]] = {"minmax": minmax, "percentile": percentile, "mse": mse}


@torch.no_grad()
def calibrate(net: nn.Module, inputs: Tensor, observer: str) -> dict[str, float]:
    """Set the scale of every FakeQuantizer from (N, 3, h, w) inputs; the thresholds by name.

    Two passes: the first finds the largest magnitudes, the second fills histograms of that width.
    """
    set_enabled(net, weights=True, activations=False)
    quantizers = fake_quantizers(net)
    largest = dict.fromkeys(quantizers, SMALLEST)

    def find_largest(name: str, values: Tensor) -> None:
        largest[name] = max(largest[name], float(values.abs().max()))

    _watch(net, quantizers, inputs, find_largest)
    histograms = {name: np.zeros(BINS) for name in quantizers}

    def fill_histogram(name: str, values: Tensor) -> None:
        magnitudes = values.abs().flatten()
        histograms[name] += torch.histc(magnitudes, BINS, 0.0, largest[name]).cpu().numpy()

    _watch(net, quantizers, inputs, fill_histogram)
    thresholds = {name: OBSERVERS[observer](histograms[name], largest[name]) for name in quantizers}
    for name, quantizer in quantizers.items():
        quantizer.scale.fill_(thresholds[name] / INT8_MAX)
    set_enabled(net, weights=True, activations=True)
    return thresholds


def _watch(net: nn.Module, quantizers: dict[str, FakeQuantizer], inputs: Tensor,
           see: Callable[[str, Tensor], None]) -> None:
    """Run all inputs and show every quantizer's values to ``see``."""
    def hook_for(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _module, arguments, _output: see(name, arguments[0])

    hooks = [quantizer.register_forward_hook(hook_for(name)) for name, quantizer in quantizers.items()]
    for batch in torch.split(inputs, BATCH):
        net(batch)
    for hook in hooks:
        hook.remove()
