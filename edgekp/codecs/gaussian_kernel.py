"""Gaussians drawn on maps, compiled by numba: only a host makes targets, so that a device needs no numba."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TypeVar, cast

import numpy as np

from edgekp.codecs.grid import Grid
from edgekp.sample import Float, Int

try:
    from numba import njit
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("numba is missing: pip install 'edgekp[train]'") from error

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function as machine code, stored beside its source so that the next process need not compile it again."""
    return cast(Function, njit(cache=True)(function))


def draw_gaussians(keypoints_xy: Float, visibility: Int, grid: Grid, sigma: float, *, reach: int,
                   margin: float) -> tuple[Float, Float]:
    """One map per keypoint with an unnormalised Gaussian (peak 1) at its position, and the keypoints' weights.

    Args:
        keypoints_xy: (N, K, 2) input pixels, or cells for a ``Grid`` of stride 1.
        visibility: (N, K), 0 not labelled.
        sigma: spread, in cells.
        reach: cells drawn on each side of the cell nearest to the keypoint; beyond them stands 0.
        margin: cells by which a keypoint may lie outside the map. One further out, not labelled or without a finite
            position weighs 0 and leaves its map empty.

    Returns:
        (N, K, h, w) float32 maps and (N, K) float32 weights, 0 or 1.

    Raises:
        ValueError: The shapes do not belong together.
    """
    n, k = visibility.shape
    if keypoints_xy.shape != (n, k, 2):
        raise ValueError(f"keypoints of shape {keypoints_xy.shape} with visibility of shape {visibility.shape}")
    maps, weight = np.empty((n, k, *grid.map_hw), np.float32), np.empty((n, k), np.float32)
    _draw(maps, weight, np.ascontiguousarray(keypoints_xy, np.float64), np.ascontiguousarray(visibility, np.int64),
          *grid.stride_xy, grid.origin, float(sigma), reach, float(margin))
    return maps, weight


@compiled
def _draw(maps: Float, weight: Float, keypoints_xy: Float, visibility: Int, stride_x: float, stride_y: float,
          origin: float, sigma: float, reach: int, margin: float) -> None:
    """Writes every cell once: a call takes little longer than filling the maps with zeros."""
    n, k, h, w = maps.shape
    across, down = np.empty(w, np.float32), np.empty(h, np.float32)
    for i in range(n):
        for j in range(k):
            x = (keypoints_xy[i, j, 0] - origin) / stride_x
            y = (keypoints_xy[i, j, 1] - origin) / stride_y
            near = -margin < x + 0.5 < w + margin and -margin < y + 0.5 < h + margin
            weight[i, j] = near and visibility[i, j] > 0
            if weight[i, j] == 0:
                maps[i, j] = 0
                continue
            _draw_profile(across, x, sigma, reach)
            _draw_profile(down, y, sigma, reach)
            _multiply(maps[i, j], down, across, int(y + 0.5) - reach, int(y + 0.5) + reach + 1)


@compiled
def _draw_profile(profile: Float, center: float, sigma: float, reach: int) -> None:
    """The Gaussian along one axis: each value is its inner neighbour times a ratio, which itself shrinks steadily."""
    nearest = int(center + 0.5)  # rounds towards 0: left of the map one cell further in, as HRNet does
    offset = center - nearest
    shrink = exp(-1 / sigma**2)
    right = left = exp(-0.5 * (offset / sigma) ** 2)
    right_ratio, left_ratio = exp((offset - 0.5) / sigma**2), exp((-offset - 0.5) / sigma**2)
    profile[:] = 0
    if 0 <= nearest < len(profile):
        profile[nearest] = right
    for step in range(1, reach + 1):
        right *= right_ratio
        left *= left_ratio
        right_ratio *= shrink
        left_ratio *= shrink
        if 0 <= nearest + step < len(profile):
            profile[nearest + step] = right
        if 0 <= nearest - step < len(profile):
            profile[nearest - step] = left


@compiled
def _multiply(image: Float, down: Float, across: Float, top: int, bottom: int) -> None:
    """The map is the product of its two profiles; rows from ``top`` to ``bottom`` only, as the others are 0."""
    h, w = image.shape
    top, bottom = max(top, 0), min(bottom, h)
    image[:top] = 0
    for row in range(top, bottom):
        for column in range(w):
            image[row, column] = down[row] * across[column]
    image[bottom:] = 0
