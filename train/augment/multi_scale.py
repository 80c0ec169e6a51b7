"""Inputs of several sizes: one size for all samples of a step, drawn from the seed and the number of the step."""

from __future__ import annotations

import numpy as np

STRIDE = 32  # sizes move in steps of it, so what divided the recipe's size divides the others, too


def input_hw_of_step(seed: int, step: int, input_hw: tuple[int, int], factors: tuple[float, ...]) -> tuple[int, int]:
    """The recipe's size times one of the factors, to the nearest 32 pixels more or fewer; unchanged without factors."""
    if not factors:
        return input_hw
    rng = np.random.default_rng([seed, step, 0, 1])  # four numbers, as no other draw of training has
    factor = factors[rng.integers(len(factors))]
    h, w = (side + STRIDE * round(side * (factor - 1) / STRIDE) for side in input_hw)
    return h, w
