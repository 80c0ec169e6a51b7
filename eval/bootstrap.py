"""Paired bootstrap over images: how much of a difference between two models is the choice of the images.

Knows no metric: each gives itself as a function of how often every image counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekp.sample import Float

# (R, I) how often each of I images counts in each of R resamples -> (R,) values of a metric
Weighted = Callable[[Float], Float]

RESAMPLES = 2000
LEVEL = 0.95  # one-sided, at either end
SEED = 2026


@dataclass(frozen=True)
class Interval:
    """A point value and its one-sided 95 % bounds; each holds by itself with that confidence."""

    point: float
    lower: float
    upper: float


def paired_interval(first: Weighted, second: Weighted, difference: Callable[[Float, Float], Float], n_images: int,
                    resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Interval of ``difference(first, second)``: both models see the same resampled images.

    Args:
        difference: of two (R,) arrays of values, element by element.
    """
    once = np.ones((1, n_images))
    draws = np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), size=resamples)
    weights = draws.astype(np.float64)
    point = float(difference(first(once), second(once))[0])
    with np.errstate(invalid="ignore"):  # a draw of few images may hold nothing that the metric can measure
        differences = difference(first(weights), second(weights))
    lower, upper = np.nanquantile(differences, [1 - LEVEL, LEVEL])
    return Interval(point, float(lower), float(upper))
