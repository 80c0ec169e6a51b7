"""Scales of activations, from what a network computes on training images. Knows no graph and no file format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from edgekp.errors import DataError
from edgekp.sample import Float
from train.models.quantized import INT8_MAX, FakeQuantizer, fake_quantizers, set_enabled

BINS = 2048
SMALLEST = 1e-6  # a tensor with nothing larger counts as zero
DEAD_THRESHOLD = 1.0  # of such a tensor: any scale holds zero, and a tiny one makes int32 biases overflow
PERCENTILE = 0.9999
CANDIDATES = 100  # clipping thresholds that the mse observer tries
ENTROPY_STRIDE = 8  # bins between two thresholds that the entropy observer tries
BATCH = 32

Observer = Callable[[Float, float, int], float]  # histogram of magnitudes, the largest one, levels above zero


def minmax(histogram: Float, largest: float, levels: int = INT8_MAX) -> float:
    """Clip nothing that was seen."""
    return largest


def percentile(histogram: Float, largest: float, levels: int = INT8_MAX) -> float:
    """Clip the largest 0.01 % of the values."""
    share = np.cumsum(histogram) / histogram.sum()
    return float((np.searchsorted(share, PERCENTILE) + 1) / BINS * largest)


def mse(histogram: Float, largest: float, levels: int = INT8_MAX) -> float:
    """The threshold with the smallest squared error: rounding below it, clipping above it."""
    values = (np.arange(BINS) + 0.5) / BINS * largest
    thresholds = np.linspace(0.2, 1.0, CANDIDATES)[:, None] * largest
    steps = thresholds / levels
    rounded = np.minimum(np.rint(values / steps), levels) * steps
    errors = ((rounded - values) ** 2 * histogram).sum(1)
    return float(thresholds[errors.argmin(), 0])


def entropy(histogram: Float, largest: float, levels: int = INT8_MAX) -> float:
    """The threshold that keeps most of the distribution, by Kullback-Leibler divergence (Migacz, 2017).

    A symmetric grid has ``levels`` + 1 levels for magnitudes, not 256. Zeros lie on every grid, so the first bin, where
    ReLU leaves most values, counts as much as the second.
    """
    if levels + 1 >= BINS:
        return largest  # finer than the histogram: nothing is lost by rounding
    counts = histogram.copy()
    counts[0] = counts[1]
    if not counts.any():
        return largest
    bins = np.arange(BINS, levels, -ENTROPY_STRIDE)  # the widest first: of equals it clips least
    divergences = [_divergence(counts, int(kept), levels + 1) for kept in bins]
    return float(bins[int(np.argmin(divergences))] / BINS * largest)


def _divergence(counts: Float, kept: int, levels: int) -> float:
    """Of the first bins, the last of them with all that is clipped, from what is left of them on so many levels."""
    inside = counts[:kept]
    clipped = inside.copy()
    clipped[-1] += counts[kept:].sum()
    level = np.arange(kept) * levels // kept
    filled = inside > 0
    sums, sizes = np.bincount(level, inside, levels), np.bincount(level, filled, levels)
    spread = np.where(filled, (sums / np.maximum(sizes, 1))[level], 0.0)
    here = clipped > 0
    if not spread.any() or (spread[here] == 0).any():
        return float("inf")  # something is left of nothing
    p, q = clipped[here] / clipped.sum(), spread[here] / spread.sum()
    return float((p * np.log(p / q)).sum())


OBSERVERS: dict[str, Observer] = {"minmax": minmax, "percentile": percentile, "mse": mse, "entropy": entropy}


@torch.no_grad()
def calibrate(net: nn.Module, inputs: Tensor, observer: str) -> dict[str, float]:
    """Set the scale of every FakeQuantizer from (N, 3, h, w) inputs; the thresholds by name.

    Two passes: the first finds the largest magnitudes, the second fills histograms of that width.

    Raises:
        DataError: A layer's result is NaN or infinite.
    """
    set_enabled(net, weights=True, activations=False)
    quantizers, largest = fake_quantizers(net), largest_magnitudes(net, inputs)
    histograms = {name: np.zeros(BINS) for name in quantizers}

    def fill_histogram(name: str, values: Tensor) -> None:
        magnitudes = values.abs().flatten()
        histograms[name] += torch.histc(magnitudes, BINS, 0.0, max(largest[name], SMALLEST)).cpu().numpy()

    _watch(net, quantizers, inputs, fill_histogram)
    thresholds = {}
    for name, quantizer in quantizers.items():
        thresholds[name] = DEAD_THRESHOLD
        if largest[name] > SMALLEST:
            thresholds[name] = OBSERVERS[observer](histograms[name], largest[name], quantizer.largest_level)
        quantizer.scale.fill_(thresholds[name] / quantizer.largest_level)
    set_enabled(net, weights=True, activations=True)
    return thresholds


@torch.no_grad()
def largest_magnitudes(net: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Of what every FakeQuantizer is given, by its name; 0 where nothing ever fires."""
    quantizers = fake_quantizers(net)
    largest = dict.fromkeys(quantizers, 0.0)

    def find_largest(name: str, values: Tensor) -> None:
        found = float(values.abs().max())
        if not np.isfinite(found):
            raise DataError(f"optimize.quantize: layer '{quantizers[name].layer}' gives NaN or infinity on training "
                            "images; train the network again, perhaps with a lower rate")
        largest[name] = max(largest[name], found)

    _watch(net, quantizers, inputs, find_largest)
    return largest


def _watch(net: nn.Module, quantizers: dict[str, FakeQuantizer], inputs: Tensor,
           see: Callable[[str, Tensor], None]) -> None:
    """Run all inputs and show every quantizer's values to ``see``."""
    def hook_for(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _module, arguments, _output: see(name, arguments[0])

    hooks = [quantizer.register_forward_hook(hook_for(name)) for name, quantizer in quantizers.items()]
    try:
        for batch in torch.split(inputs, BATCH):
            net(batch)
    finally:
        for hook in hooks:
            hook.remove()
