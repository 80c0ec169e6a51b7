"""OpenPose's maps of a scene, compiled by numba: only a host makes targets, so that a device needs no numba."""

from __future__ import annotations

from math import ceil, exp, floor, hypot, isnan, nan

import numpy as np

from edgekp.codecs.gaussian_kernel import compiled
from edgekp.codecs.grid import Grid
from edgekp.sample import Float, Int

DRAWN_IN_SIGMAS = 6.0  # what is left out is below exp(-18), a quarter of the last bit of the background's 1 - 0
FARTHEST = 1e6  # cells; a keypoint further out is a fault, and its cells would not fit into an integer


def draw_scenes(keypoints_xy: Float, visibility: Int, limbs: Int, grid: Grid, sigma: float,
                thickness: float) -> tuple[Float, Float]:
    """Heatmaps with a background, and part affinity fields, of all people of each scene.

    Args:
        keypoints_xy: (N, P, K, 2) input pixels.
        visibility: (N, P, K); 0 is not drawn, nor is a keypoint without a usable position.
        limbs: (L, 2) keypoints where each limb starts and ends.
        sigma: spread of the Gaussians, in cells.
        thickness: half the width of a limb, in cells.

    Returns:
        (N, K + 1, h, w) and (N, 2L, h, w), float32.

    Raises:
        ValueError: The shapes do not belong together.
    """
    n, people, k = visibility.shape
    if keypoints_xy.shape != (n, people, k, 2):
        raise ValueError(f"keypoints of shape {keypoints_xy.shape} with visibility of shape {visibility.shape}")
    heatmaps = np.empty((n, k + 1, *grid.map_hw), np.float32)
    pafs = np.empty((n, 2 * len(limbs), *grid.map_hw), np.float32)
    _draw(heatmaps, pafs, np.ascontiguousarray(keypoints_xy, np.float64), np.ascontiguousarray(visibility, np.int64),
          limbs, *grid.stride_xy, grid.origin, sigma, thickness)
    return heatmaps, pafs


@compiled
def _draw(heatmaps: Float, pafs: Float, keypoints_xy: Float, visibility: Int, limbs: Int, stride_x: float,
          stride_y: float, origin: float, sigma: float, thickness: float) -> None:
    """Each map is cleared and drawn at once, while the processor's nearest cache still holds it."""
    n, people, k = visibility.shape
    cells_xy, covered = np.empty((people, k, 2)), np.empty(heatmaps.shape[2:], np.int16)
    for i in range(n):
        for person in range(people):
            for j in range(k):
                x = (keypoints_xy[i, person, j, 0] - origin) / stride_x
                y = (keypoints_xy[i, person, j, 1] - origin) / stride_y
                is_drawn = visibility[i, person, j] > 0 and abs(x) < FARTHEST and abs(y) < FARTHEST
                cells_xy[person, j, 0] = x if is_drawn else nan
                cells_xy[person, j, 1] = y if is_drawn else nan
        _draw_heatmaps(heatmaps[i], cells_xy, sigma)
        for limb in range(len(limbs)):
            _draw_limb(pafs[i, 2 * limb], pafs[i, 2 * limb + 1], covered, cells_xy[:, limbs[limb, 0]],
                       cells_xy[:, limbs[limb, 1]], thickness)


@compiled
def _draw_heatmaps(maps: Float, cells_xy: Float, sigma: float) -> None:
    """The last map holds the highest value at each cell while the others are drawn, and ends as 1 minus it."""
    _, h, w = maps.shape
    background = maps[-1]
    background[:] = 0
    down, across = np.empty(h, np.float32), np.empty(w, np.float32)
    for j in range(len(maps) - 1):
        maps[j] = 0
        for person in range(len(cells_xy)):
            x, y = cells_xy[person, j]
            if isnan(x):
                continue
            left, right = max(ceil(x - DRAWN_IN_SIGMAS * sigma), 0), min(floor(x + DRAWN_IN_SIGMAS * sigma) + 1, w)
            top, bottom = max(ceil(y - DRAWN_IN_SIGMAS * sigma), 0), min(floor(y + DRAWN_IN_SIGMAS * sigma) + 1, h)
            _draw_profile(across, left, right, x, sigma)
            _draw_profile(down, top, bottom, y, sigma)
            for row in range(top, bottom):
                for column in range(left, right):
                    value = down[row] * across[column]
                    maps[j, row, column] = max(maps[j, row, column], value)
                    background[row, column] = max(background[row, column], value)
    for row in range(h):  # a loop, because numba takes seconds to compile numpy's expression
        for column in range(w):
            background[row, column] = 1 - background[row, column]


@compiled
def _draw_profile(profile: Float, first: int, end: int, center: float, sigma: float) -> None:
    """A Gaussian along one axis: each value is its neighbour times a ratio, which itself shrinks steadily."""
    value, ratio = exp(-0.5 * ((first - center) / sigma) ** 2), exp((center - first - 0.5) / sigma**2)
    shrink = exp(-1 / sigma**2)
    for cell in range(first, end):
        profile[cell] = value
        value *= ratio
        ratio *= shrink


@compiled
def _draw_limb(along_x: Float, along_y: Float, covered: Int, starts_xy: Float, ends_xy: Float,
               thickness: float) -> None:
    """The unit vector of one limb of each person; where people overlap their mean, kept up to date cell by cell."""
    h, w = covered.shape
    along_x[:] = 0
    along_y[:] = 0
    covered[:] = 0
    for person in range(len(starts_xy)):
        x, y = starts_xy[person]
        end_x, end_y = ends_xy[person]
        length = hypot(end_x - x, end_y - y)
        if isnan(length) or length == 0:
            continue
        unit_x, unit_y = (end_x - x) / length, (end_y - y) / length
        left, right = max(ceil(min(x, end_x) - thickness), 0), min(floor(max(x, end_x) + thickness) + 1, w)
        top, bottom = max(ceil(min(y, end_y) - thickness), 0), min(floor(max(y, end_y) + thickness) + 1, h)
        for row in range(top, bottom):
            for column in range(left, right):
                if abs((column - x) * unit_y - (row - y) * unit_x) <= thickness:
                    covered[row, column] += 1
                    along_x[row, column] += (unit_x - along_x[row, column]) / covered[row, column]
                    along_y[row, column] += (unit_y - along_y[row, column]) / covered[row, column]
