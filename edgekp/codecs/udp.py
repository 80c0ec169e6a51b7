"""Heatmaps of UDP, unbiased data processing (Huang et al., CVPR 2020), for networks that were trained with them.

Unbiased like ``Heatmap``, by another convention: the centres of the first and last cell lie on the centres of the first
and last pixel, so that a cell is (input - 1) / (map - 1) pixels, which is not quite the network's stride. The maps of
one convention decoded by the other are off by up to (stride - 1) / 2 pixels at the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import ClassVar

import numpy as np

from edgekp.codecs.dark import BLUR_REACH_IN_SIGMAS, blur, newton_step
from edgekp.codecs.grid import Grid, check_sigma, map_hw
from edgekp.codecs.peaks import cells_xy, highest
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target

LOWEST, TALLEST = 1e-3, 50.0  # the smoothed map is clipped to this before its logarithm is taken

# From the 3 x 3 logs around a peak to (d/dx, d/dy, d2/dx2, d2/dy2, d2/dxdy), as UDP takes them.
DERIVATIVES = np.array([
    [[0, 0, 0], [-0.5, 0, 0.5], [0, 0, 0]],
    [[0, -0.5, 0], [0, 0, 0], [0, 0.5, 0]],
    [[0, 0, 0], [1, -2, 1], [0, 0, 0]],
    [[0, 1, 0], [0, -2, 0], [0, 1, 0]],
    [[0.5, -0.5, 0], [-0.5, 1, -0.5], [0, -0.5, 0.5]],
]).reshape(5, 9)


def udp_grid(input_hw: tuple[int, int], stride: int) -> Grid:
    """First on first and last on last: the centres of the outermost cells and pixels.

    Raises:
        RecipeError: The stride does not divide the input, or leaves a single cell.
    """
    h, w = map_hw(input_hw, stride)
    if min(h, w) < 2:
        raise RecipeError(f"codec.stride: {stride} leaves a side of one cell; UDP needs two or more")
    return Grid((h, w), ((input_hw[1] - 1) / (w - 1), (input_hw[0] - 1) / (h - 1)))


@dataclass(frozen=True)
class UDP:
    """One map per keypoint with a Gaussian (peak 1) at its position, in a patch of 3 sigma around the nearest cell.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: of the network, which sets the size of the maps.
        sigma: spread of the Gaussian, in cells: 2 for maps of 64 x 48, 3 for 96 x 72.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)

    def __post_init__(self) -> None:
        udp_grid(self.input_hw, self.stride)  # refuses a stride that makes no grid
        check_sigma(self.sigma)

    @cached_property
    def grid(self) -> Grid:
        return udp_grid(self.input_hw, self.stride)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; one not labelled, or whose patch misses the map, weighs 0."""
        import edgekp.codecs.gaussian_kernel as kernel

        reach = int(3 * self.sigma)
        maps, weight = kernel.draw_gaussians(keypoints_xy, visibility, self.grid, self.sigma, reach=reach, margin=reach)
        return Target({"heatmaps": maps}, weight)

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K), the height of each map's peak.

        A Newton step on the log of the smoothed map, like DARK's, but over 3 x 3 cells and at the border too.
        """
        maps = np.ascontiguousarray(outputs["heatmaps"], dtype=np.float32)
        n, k, h, w = maps.shape
        maps = maps.reshape(n * k, h, w)
        at, scores = highest(maps)
        cells = cells_xy(at, (h, w)) + self._offset(maps, at)
        return self.grid.to_pixels(cells.reshape(n, k, 2)), scores.reshape(n, k)

    def _offset(self, maps: Float, at: Int) -> Float:
        """(M, 2) cells from each peak to the top of the parabola; the map's border repeats itself outwards."""
        _, h, w = maps.shape
        smoothed = blur(maps, self.sigma, ceil(BLUR_REACH_IN_SIGMAS * self.sigma))
        steps = np.arange(-1, 2)
        y = np.clip((at // w % h)[:, None] + steps, 0, h - 1)
        x = np.clip((at % w)[:, None] + steps, 0, w - 1)
        around = smoothed[np.arange(len(maps))[:, None, None], y[:, :, None], x[:, None, :]].reshape(-1, 9)
        logs = np.log(np.clip(around * _lost_height(maps, smoothed)[:, None], LOWEST, TALLEST))
        return newton_step(DERIVATIVES @ logs.T)


def _lost_height(maps: Float, smoothed: Float) -> Float:
    """(M,) by what smoothing divided each map's peak; 1 where nothing is left of it."""
    before, after = np.nan_to_num(maps).max((1, 2)), smoothed.max((1, 2)).astype(np.float64)
    return np.asarray(np.divide(before, after, out=np.ones_like(after), where=after != 0))
