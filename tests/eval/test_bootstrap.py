"""Resampling by image: what is drawn, that both models see the same, and what an interval promises."""

from __future__ import annotations

import numpy as np
import pytest

from edgekp.sample import Float
from eval import bootstrap
from eval.bootstrap import Weighted, draw, paired_interval, resample


def mean_of(values: Float) -> Weighted:
    return lambda weights: weights @ values / weights.sum(1)


def drawn(n_images: int, resamples: int) -> Float:
    return np.concatenate(list(draw(n_images, resamples)))


def test_every_resample_has_as_many_images_and_each_is_equally_likely() -> None:
    counts = drawn(n_images=40, resamples=1300)
    assert counts.shape == (1300, 40)
    assert (counts.sum(1) == 40).all()
    np.testing.assert_allclose(counts.mean(0), 1, atol=5 / np.sqrt(1300))  # the variance of a count is near 1
    assert counts.var() == pytest.approx(1 - 1 / 40, abs=0.03)


def test_the_same_resamples_come_back_however_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = drawn(30, 700)
    monkeypatch.setattr(bootstrap, "RESAMPLES_AT_ONCE", 64)
    np.testing.assert_array_equal(drawn(30, 700), before)
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 100)  # fewer than four resamples of 30 images
    np.testing.assert_array_equal(drawn(30, 700), before)


def test_an_interval_is_that_of_a_mean(rng: np.random.Generator) -> None:
    values = rng.normal(5.0, 2.0, 400)
    found = resample(mean_of(values), 400, 4000)
    interval, = found.intervals()
    error = values.std() / np.sqrt(400)
    assert interval.point == pytest.approx(values.mean())
    assert found.standard_error()[0] == pytest.approx(error, rel=0.05)  # 1 / sqrt(2 x 4000) is 1 %
    assert interval.lower == pytest.approx(values.mean() - 1.645 * error, abs=0.1 * error)
    assert interval.upper == pytest.approx(values.mean() + 1.645 * error, abs=0.1 * error)


def test_what_both_models_share_cancels(rng: np.random.Generator) -> None:
    values = rng.normal(5.0, 2.0, 100)
    same = paired_interval(mean_of(values), mean_of(values + 0.5), np.subtract, 100, 200)
    np.testing.assert_allclose([same.point, same.lower, same.upper], -0.5, atol=1e-6)  # weights are float32


def test_several_metrics_are_resampled_together(rng: np.random.Generator) -> None:
    first, second = rng.normal(0, 1, (2, 50))
    both = resample(lambda weights: np.stack([mean_of(first)(weights), mean_of(second)(weights)], axis=1), 50, 300)
    for number, values in enumerate((first, second)):
        assert both.intervals()[number] == resample(mean_of(values), 50, 300).intervals()[0]
