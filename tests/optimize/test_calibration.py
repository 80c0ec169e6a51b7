"""Scales of activations: what each observer clips, and that a dead tensor harms nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.errors import DataError
from optimize.calibration import BATCH, BINS, ENTROPY_STRIDE, OBSERVERS, calibrate, entropy, minmax, mse, percentile
from train.models.quantized import INT8_MAX, FakeQuantizer


def histogram_of(values: np.ndarray) -> tuple[np.ndarray, float]:
    largest = float(np.abs(values).max())
    return np.histogram(np.abs(values), BINS, (0, largest))[0].astype(np.float64), largest


def test_minmax_clips_nothing() -> None:
    assert minmax(*histogram_of(np.array([0.1, 0.2, 5.0]))) == 5.0


def test_percentile_clips_the_largest_of_ten_thousand() -> None:
    bulk = np.linspace(0, 1, 100_000)
    for outliers, clipped in ((9, True), (12, False)):  # 0.01 % of 100,000 are 10
        threshold = percentile(*histogram_of(np.concatenate([bulk, np.full(outliers, 8.0)])))
        assert threshold == pytest.approx(1.0 if clipped else 8.0, abs=8 / BINS)


def test_percentile_of_even_values_is_their_9999th_share() -> None:
    threshold = percentile(*histogram_of(np.linspace(0, 10, 1_000_000)))
    assert threshold == pytest.approx(9.999, abs=10 / BINS)


def test_mse_clips_an_outlier_that_would_coarsen_all_others(rng: np.random.Generator) -> None:
    bulk = rng.uniform(0, 1, 1_000_000)
    histogram, largest = histogram_of(np.append(bulk, 4.0))
    assert mse(histogram, largest) == pytest.approx(1.0, abs=0.1)  # candidates lie 0.8 % of 4 apart
    assert minmax(histogram, largest) == 4.0


def test_mse_keeps_the_end_of_even_values(rng: np.random.Generator) -> None:
    assert mse(*histogram_of(rng.uniform(0, 3, 100_000))) == pytest.approx(3.0, rel=0.02)


def test_mse_has_the_smallest_error_of_all_thresholds(rng: np.random.Generator) -> None:
    """Against rounding the values themselves at each threshold."""
    values = np.abs(rng.laplace(0, 1, 50_000))

    def error(threshold: float) -> float:
        step = threshold / INT8_MAX
        return float(((np.minimum(np.rint(values / step), INT8_MAX) * step - values) ** 2).mean())

    chosen = error(mse(*histogram_of(values)))
    best = min(error(threshold) for threshold in np.linspace(0.2, 1, 200) * values.max())
    assert chosen < 1.05 * best < error(values.max())


def test_entropy_clips_an_outlier_that_would_coarsen_all_others(rng: np.random.Generator) -> None:
    histogram, largest = histogram_of(np.append(rng.normal(0, 1, 1_000_000), 30.0))
    assert entropy(histogram, largest) < 6.0 < minmax(histogram, largest)


def test_entropy_keeps_the_end_of_even_values(rng: np.random.Generator) -> None:
    assert entropy(*histogram_of(rng.uniform(0, 3, 1_000_000))) == pytest.approx(3.0, rel=0.1)


def test_entropy_does_not_see_the_zeros_of_a_relu(rng: np.random.Generator) -> None:
    histogram, largest = histogram_of(rng.normal(0, 1, 200_000))
    many_zeros = histogram.copy()
    many_zeros[0] += 10_000_000
    assert entropy(many_zeros, largest) == entropy(histogram, largest)


def test_entropy_is_what_the_description_of_the_algorithm_says(rng: np.random.Generator) -> None:
    """Migacz 2017, slide 38, in plain loops over 128 levels: those of magnitudes on a symmetric int8 grid."""
    histogram, largest = histogram_of(rng.laplace(0, 1, 300_000))
    histogram[0] = histogram[1]
    best = (np.inf, 0)
    for kept in range(BINS, 127, -ENTROPY_STRIDE):
        reference = histogram[:kept].tolist()
        reference[-1] += float(histogram[kept:].sum())
        candidate = np.zeros(kept)
        for level in range(128):
            bins = slice(-(-level * kept // 128), -(-(level + 1) * kept // 128))
            filled = histogram[bins] > 0
            candidate[bins] = np.where(filled, histogram[bins].sum() / max(filled.sum(), 1), 0.0)
        p, q = np.array(reference) / sum(reference), candidate / candidate.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = float(np.where(p > 0, p * np.log(p / q), 0.0).sum())
        best = min(best, (divergence, -kept))
    assert entropy(histogram, largest) == pytest.approx(-best[1] / BINS * largest)


@pytest.mark.parametrize("observer", ["minmax", "mse", "entropy"])
def test_sixteen_bits_clip_nothing(observer: str, rng: np.random.Generator) -> None:
    histogram, largest = histogram_of(np.append(rng.uniform(0, 1, 100_000), 4.0))
    assert OBSERVERS[observer](histogram, largest, 2**15 - 1) == pytest.approx(4.0)


class Two(nn.Module):
    """A tensor in 0..3 and, behind a gate that never opens, one that is always zero."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.dead = FakeQuantizer(), FakeQuantizer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.alive(x) + self.dead(torch.relu(-1 - x.abs()))
        return out


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_tensor_that_is_always_zero_gives_a_finite_output(observer: str) -> None:
    net = Two()
    inputs = torch.linspace(0, 3, (BATCH + 5) * 12).reshape(-1, 3, 2, 2)  # two batches, one of them short
    thresholds = calibrate(net, inputs, observer)
    assert set(thresholds) == {"alive", "dead"}
    assert thresholds["dead"] > 0.1  # a tiny scale would make the int32 biases behind it overflow
    assert thresholds["alive"] == pytest.approx(3.0, rel=0.02)
    output = net(inputs)
    assert torch.isfinite(output).all()
    assert (output - inputs).abs().max() < 3.0 * 0.02 + 3.0 / INT8_MAX  # clipping and half a step


def test_negative_values_count_by_their_magnitude() -> None:
    net = Two()
    assert calibrate(net, -torch.linspace(0, 3, 96).reshape(-1, 3, 2, 2), "minmax")["alive"] == pytest.approx(3.0)
    assert float(net.alive.scale) == pytest.approx(3.0 / INT8_MAX)


def test_scales_come_from_all_batches_and_leave_no_hooks() -> None:
    net = Two()
    inputs = torch.ones(3 * BATCH, 3, 2, 2)
    inputs[-1] = 7.0
    assert calibrate(net, inputs, "minmax")["alive"] == 7.0
    assert not any(module._forward_hooks for module in net.modules())
    assert net.alive.enabled
    assert net.dead.enabled


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_that_computes_no_number_is_named(value: float) -> None:
    net = Two()
    net.alive.layer = "stem.conv"
    inputs = torch.ones(BATCH + 1, 3, 2, 2)
    inputs[-1, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"layer 'stem\.conv' gives NaN or infinity"):
        calibrate(net, inputs, "mse")
    assert not any(module._forward_hooks for module in net.modules())


def test_a_quantizer_of_16_bits_has_65536_levels() -> None:
    net = Two()
    net.alive = FakeQuantizer(bits=16)
    inputs = torch.linspace(-3, 3, 9600).reshape(-1, 3, 2, 2)
    calibrate(net, inputs, "minmax")
    assert float(net.alive.scale) == pytest.approx(3.0 / 32767)
    assert (net(inputs) - inputs).abs().max() < 0.51 * 3.0 / 32767
