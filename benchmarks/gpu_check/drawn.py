"""Outputs of a network that knows the keypoints, by numpy alone: what draws targets for training needs numba.

Knows no codec; shapes and units are those of edgekp/codecs.
"""

from __future__ import annotations

import numpy as np

from edgekp.codecs.grid import Grid
from edgekp.sample import Float, Int


def gaussian_logits(keypoints_xy: Float, grid: Grid, sigma: float) -> Float:
    """(..., h, w) logs of Gaussians with peak 1, of (..., 2) keypoints in input pixels; sigma is in cells."""
    h, w = grid.map_hw
    cells = grid.to_cells(keypoints_xy)
    x, y = cells[..., 0, None, None] - np.arange(w), cells[..., 1, None, None] - np.arange(h)[:, None]
    return np.asarray(-0.5 * (x**2 + y**2) / sigma**2)


def gaussian_bins(places: Float, bins: int, sigma: float) -> Float:
    """(..., bins) Gaussians with peak 1 at (...) places in bins."""
    return np.asarray(np.exp(-0.5 * ((places[..., None] - np.arange(bins)) / sigma) ** 2))


def limb_fields(people_xy: Float, limbs: Int, grid: Grid, thickness: float) -> Float:
    """(2L, h, w) unit vectors near each limb of (P, K, 2) people; of several the last."""
    h, w = grid.map_hw
    fields = np.zeros((len(limbs), 2, h, w))
    y, x = np.mgrid[0:h, 0:w]
    for person in grid.to_cells(people_xy):
        for field, (first, last) in zip(fields, limbs, strict=True):
            start, along = person[first], person[last] - person[first]
            length = np.linalg.norm(along)
            unit = along / length
            ahead = (x - start[0]) * unit[0] + (y - start[1]) * unit[1]
            aside = (x - start[0]) * unit[1] - (y - start[1]) * unit[0]
            near = (np.abs(aside) <= thickness) & (ahead >= -thickness) & (ahead <= length + thickness)
            field[:, near] = unit[:, None]
    return fields.reshape(-1, h, w)
