"""The highest cells of maps and simple refinements of their positions. Knows no grid, no pixel and no network.

A peak is named by its position in the flat maps, which holds map, row and column in one integer.
"""

from __future__ import annotations

from math import inf

import numpy as np

from edgekp.sample import Bool, Float, Int

FLOAT32_MAX = float(np.finfo(np.float32).max)  # stands for infinity where differences are taken
HALF_HEIGHT = 0.5  # of the highest; a lower peak is not fused
EARLIER = ((-1, -1), (-1, 0), (-1, 1), (0, -1))  # neighbours (dy, dx) that win a tie
LATER = ((0, 1), (1, -1), (1, 0), (1, 1))


def highest(maps: Float) -> tuple[Int, Float]:
    """Position and height (M,) of the highest cell of each map (M, h, w).

    NaN never wins, ties go to the lowest index, and a map without a finite value has height 0.
    """
    m, h, w = maps.shape
    flat = maps.reshape(m, h * w)
    rows = np.arange(m)
    peak = flat.argmax(-1)
    heights: Float = flat[rows, peak]
    if not np.isfinite(heights).all():  # argmax takes NaN for the largest, so that one look at the heights finds it
        flat = np.where(np.isnan(flat), -inf, flat)
        peak = flat.argmax(-1)
        heights = flat[rows, peak]
        heights = np.where(np.isfinite(heights), heights, 0.0)
    return peak + rows * (h * w), heights.astype(np.float32)


def cells_xy(at: Int, map_hw: tuple[int, int]) -> Float:
    """(P, 2) column and row of each of (P,) positions."""
    h, w = map_hw
    return np.asarray(np.array([at % w, at // w % h], dtype=np.float64).T)


def quarter_offset(maps: Float, at: Int) -> Float:
    """(P, 2) a quarter of a cell towards the higher neighbour of each axis (stacked hourglass, Newell et al. 2016)."""
    before, _, after = _neighbours(maps, at)
    return 0.25 * np.sign(after - before)


def quadratic_offset(maps: Float, at: Int) -> Float:
    """(P, 2) from each peak to the top of the parabola through it and its neighbours, one axis at a time."""
    before, here, after = _neighbours(maps, at)
    slope, bend = 0.5 * (after - before), 2 * here - before - after
    return np.clip(slope / np.where(bend > 0, bend, inf), -0.5, 0.5)


def _neighbours(maps: Float, at: Int) -> tuple[Float, Float, Float]:
    """Values (P, 2) before, at and after each peak along x and y; where one lies outside the map, all are equal."""
    _, h, w = maps.shape
    x, y = at % w, at // w % h
    step = np.array([(x > 0) & (x < w - 1), w * ((y > 0) & (y < h - 1))]).T
    values = maps.reshape(-1)[at[:, None] + step * np.array([-1, 0, 1])[:, None, None]].astype(np.float64)
    if not np.isfinite(values).all():
        values = np.nan_to_num(values, posinf=FLOAT32_MAX, neginf=-FLOAT32_MAX)
    return values[0], values[1], values[2]


def several_highest(maps: Float, at: Int, count: int, radius: float) -> tuple[Int, Float]:
    """Positions and heights (P, count) of the highest local maxima near each peak, itself first.

    Guides to heatmap keypoints suggest to fuse several peaks, but not which; here a local maximum tops its 3 x 3
    cells, lies within ``radius`` cells of the peak and is higher than half of it. Where there are fewer than
    ``count``, the peak is named again with height 0. A peak that is not above 0 stays alone, with height 1.
    """
    reach = int(radius)
    values = _window(maps, at, reach + 1)
    inner = values[:, 1:-1, 1:-1]
    steps = np.arange(-reach, reach + 1)
    near = steps[:, None] ** 2 + steps**2 <= radius**2
    usable = _local_maxima(values) & near & (inner > HALF_HEIGHT * inner[:, reach, reach, None, None])
    heights = np.where(usable, inner, 0.0).reshape(len(at), len(steps) ** 2)
    order = np.argsort(-heights, axis=-1, kind="stable")[:, :count]
    heights = np.take_along_axis(heights, order, -1)
    places = at[:, None] + (steps[:, None] * maps.shape[2] + steps).ravel()[order]
    places = np.where(heights > 0, places, at[:, None])
    heights[:, 0] = np.where(heights[:, 0] > 0, heights[:, 0], 1.0)
    return places, heights


def _window(maps: Float, at: Int, reach: int) -> Float:
    """(P, 2 reach + 1, 2 reach + 1) values around each peak; -inf outside the map and where a value is NaN."""
    _, h, w = maps.shape
    steps = np.arange(-reach, reach + 1)
    x, y = (at % w)[:, None] + steps, (at // w % h)[:, None] + steps
    inside = ((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None, :]
    values = maps.reshape(-1).take(at[:, None, None] + steps[:, None] * w + steps, mode="clip").astype(np.float64)
    return np.where(inside & ~np.isnan(values), values, -inf)


def _local_maxima(values: Float) -> Bool:
    """True for the inner cells that top their neighbours; of equal neighbours the first."""
    tall, wide = values.shape[1] - 2, values.shape[2] - 2
    inner = values[:, 1:-1, 1:-1]
    tops = np.ones(inner.shape, dtype=np.bool_)
    for dy, dx in EARLIER:
        tops &= inner > values[:, 1 + dy:1 + dy + tall, 1 + dx:1 + dx + wide]
    for dy, dx in LATER:
        tops &= inner >= values[:, 1 + dy:1 + dy + tall, 1 + dx:1 + dx + wide]
    return tops
