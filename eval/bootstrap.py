"""Paired bootstrap over images: how much of a difference between two models is the choice of the images.

Knows no metric: each gives itself as a function of how often every image counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgekp.sample import Float

# (R, I) how often each of I images counts in each of R resamples -> (R,) or (R, S) values of one or S metrics
Weighted = Callable[[Float], Float]

RESAMPLES = 2000
LEVEL = 0.95  # one-sided, at either end
SEED = 2026
RESAMPLES_AT_ONCE = 500
CELLS_AT_ONCE = 1 << 24  # resamples x images, so that memory stays in the hundreds of megabytes


@dataclass(frozen=True)
class Interval:
    """A point value and its one-sided 95 % bounds; each holds by itself with that confidence."""

    point: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Resampled:
    """Values on the images as they are, (S,), and on R resamples of them, (R, S)."""

    point: Float
    values: Float

    def intervals(self) -> list[Interval]:
        """One for each of the S values; NaN bounds where no resample has a value."""
        if not self.point.size:
            return []
        lower, upper = np.nanquantile(self.values, [1 - LEVEL, LEVEL], axis=0)
        return [Interval(*map(float, entry)) for entry in zip(self.point, lower, upper, strict=True)]

    def standard_error(self) -> Float:
        """(S,)"""
        return np.asarray(self.values.std(axis=0))


def resample(metrics: Weighted, n_images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Resampled:
    """Evaluate metrics, or differences of metrics, on the images and on resamples of them: the same for all."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of few images may hold nothing to measure
        point = metrics(np.ones((1, n_images))).reshape(1, -1)
        values = [metrics(weights).reshape(len(weights), -1) for weights in draw(n_images, resamples, seed)]
    return Resampled(point[0], np.concatenate(values))


def draw(n_images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Float]:
    """(R, I) float32 how often each image is drawn, some resamples at a time, as the transpose of (I, R)."""
    rng = np.random.default_rng(seed)
    at_once = min(RESAMPLES_AT_ONCE, max(1, CELLS_AT_ONCE // n_images))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, n_images, (rows, n_images))
        counts = np.stack([np.bincount(images, minlength=n_images) for images in drawn], axis=1)
        yield counts.astype(np.float32).T


def paired_interval(first: Weighted, second: Weighted, difference: Callable[[Float, Float], Float], n_images: int,
                    resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Interval of ``difference(first, second)``: both models see the same resampled images.

    Args:
        difference: of two (R,) arrays of values, element by element.
    """
    def lost(weights: Float) -> Float:
        return difference(first(weights), second(weights))

    return resample(lost, n_images, resamples, seed).intervals()[0]
