"""DARK: the sub-cell position of a peak from the log of the smoothed map (Zhang et al., CVPR 2020), in numpy alone.

The log of a Gaussian is a parabola, so one Newton step from the highest cell ends at its top. Only the cells around
the peaks are smoothed; the rest of the maps is never touched.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, inf

import numpy as np

from edgekp.sample import Bool, Float, Int

BLUR_REACH_IN_SIGMAS = 2.5  # radius of the smoothing kernel: 11 cells for sigma 2, as in the paper's code
LONGEST_STEP = 2.0  # cells; on a map without a peak the parabola's top lies anywhere, and the argmax is kept
FLOOR = 1e-10  # smallest value whose logarithm is taken

# From the 5 x 5 logs around a peak to (d/dx, d/dy, d2/dx2, d2/dy2, d2/dxdy): central differences over two cells.
_SLOPE, _CURVE, _HERE = np.array([[0, -0.5, 0, 0.5, 0], [0.25, 0, -0.5, 0, 0.25], [0, 0, 1, 0, 0]])
DERIVATIVES = np.stack([np.outer(down, across).ravel() for down, across in (
    (_HERE, _SLOPE), (_SLOPE, _HERE), (_HERE, _CURVE), (_CURVE, _HERE), (_SLOPE, _SLOPE))])


def dark_offset(maps: Float, at: Int, sigma: float) -> Float:
    """(P, 2) cells from each peak to the top of the parabola; 0 within two cells of the border, as in the paper's code.

    Args:
        maps: (M, h, w) float32, contiguous.
        at: (P,) positions of the peaks in the flat maps.
        sigma: spread of the Gaussians, in cells.
    """
    _, h, w = maps.shape
    cell = at % (h * w)
    logs = np.log(np.maximum(_smoothed(maps, at, cell, sigma), FLOOR))
    step = newton_step(DERIVATIVES @ logs.reshape(-1, 25).T)
    return np.where(_two_cells_inside(h, w)[cell, None], step, 0.0)


def newton_step(derivatives: Float) -> Float:
    """(P, 2) from the slopes and curvatures (5: x, y, xx, yy, xy; P) to the parabola's top; 0 where none is near."""
    x, y, xx, yy, xy = derivatives
    determinant = xx * yy - xy * xy
    step: Float = np.array([xy * y - yy * x, xy * x - xx * y]) / np.where(determinant != 0, determinant, inf)
    return np.asarray(np.where(np.abs(step).max(0) <= LONGEST_STEP, step, 0.0).T)


def _smoothed(maps: Float, at: Int, cell: Int, sigma: float) -> Float:
    """(P, 5, 5) Gaussian-blurred values around each peak; outside the map are zeros."""
    _, h, w = maps.shape
    reach = ceil(BLUR_REACH_IN_SIGMAS * sigma)
    tall, wide = min(h, 2 * reach + 5), min(w, 2 * reach + 5)
    y, x = np.divmod(cell, w)
    down = y - np.minimum(np.maximum(y - reach - 2, 0), h - tall)  # where the peak is in its window: the middle,
    across = x - np.minimum(np.maximum(x - reach - 2, 0), w - wide)  # unless the map's border pushes the window in
    size = maps.itemsize
    windows = np.ndarray((max(maps.size - (tall - 1) * w - wide + 1, 0), tall, wide), maps.dtype, maps,
                         strides=(size, w * size, size))  # overlapping views; as_strided does it in twice the time
    patches = windows[at - down * w - across]
    if not np.isfinite(patches).all():
        patches = np.nan_to_num(patches)
    rows, columns = blur_rows(sigma, reach, tall).take(down, 0), blur_rows(sigma, reach, wide).take(across, 0)
    return np.asarray(rows @ patches @ columns.swapaxes(1, 2))


def blur(maps: Float, sigma: float, reach: int) -> Float:
    """(M, h, w) float32: maps smoothed by a Gaussian of 2 reach + 1 cells, with zeros outside; NaN counts as 0."""
    _, h, w = maps.shape
    rows, columns = blur_rows(sigma, reach, h)[:, 2], blur_rows(sigma, reach, w)[:, 2]
    return np.asarray(rows @ np.nan_to_num(maps) @ columns.T, dtype=np.float32)


@lru_cache(maxsize=16)
def blur_rows(sigma: float, reach: int, length: int) -> Float:
    """(length, 5, length): for each cell the kernels that blur it and its two neighbours on each side, zero-padded."""
    cells = np.arange(length)
    distance = cells - (cells[:, None, None] + np.arange(-2, 3)[:, None])
    kernel = np.where(np.abs(distance) <= reach, np.exp(-0.5 * (distance / sigma) ** 2), 0)
    return np.asarray(kernel / np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum())


@lru_cache(maxsize=16)
def _two_cells_inside(h: int, w: int) -> Bool:
    """(h * w,) True where a 5 x 5 neighbourhood lies inside the map."""
    inside = np.zeros((h, w), dtype=np.bool_)
    inside[2:-2, 2:-2] = True
    return inside.ravel()
