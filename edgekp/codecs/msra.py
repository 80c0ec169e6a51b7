"""Heatmaps of Simple Baselines and HRNet (Xiao et al. 2018, Sun et al. 2019), for networks that were trained with them.

Biased: encoding rounds a keypoint to a cell, so that it comes back up to half a cell away, and whole pixels half a
pixel too far on average. And cell j stands for input pixel ``stride * j``, which mirroring does not respect: a
mirrored map decodes ``stride - 1`` pixels left of the mirrored keypoint. ``Heatmap`` has neither fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from edgekp.codecs.grid import Grid, check_sigma, map_hw
from edgekp.codecs.peaks import cells_xy, highest, quarter_offset
from edgekp.sample import Float, Int, Target


@dataclass(frozen=True)
class MSRA:
    """One map per keypoint with a Gaussian (peak 1) cut off at 3 sigma, centred on the cell nearest to the keypoint.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell.
        sigma: spread of the Gaussian, in cells: 2 for maps of 64 x 48, 3 for 96 x 72.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)

    def __post_init__(self) -> None:
        map_hw(self.input_hw, self.stride)  # refuses a stride that makes no grid
        check_sigma(self.sigma)

    @cached_property
    def grid(self) -> Grid:
        return Grid(map_hw(self.input_hw, self.stride), (self.stride, self.stride))

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; one not labelled, or whose patch misses the map, weighs 0."""
        import edgekp.codecs.gaussian_kernel as kernel

        cells = np.trunc(self.grid.to_cells(keypoints_xy) + 0.5)
        reach = int(3 * self.sigma)
        maps, weight = kernel.draw_gaussians(cells, visibility, Grid(self.grid.map_hw), self.sigma,
                                             reach=reach, margin=reach)
        return Target({"heatmaps": maps}, weight)

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K), the height of each map's peak.

        A quarter of a cell towards the higher neighbour, but as in mmpose not along an axis whose first two cells
        hold the peak, nor along either from the map's first row and column.
        """
        maps = np.ascontiguousarray(outputs["heatmaps"], dtype=np.float32)
        n, k, h, w = maps.shape
        maps = maps.reshape(n * k, h, w)
        at, scores = highest(maps)
        cells = cells_xy(at, (h, w))
        refined = (cells > 1) & (cells > 0).all(-1, keepdims=True)
        cells += np.where(refined, quarter_offset(maps, at), 0.0)
        return self.grid.to_pixels(cells.reshape(n, k, 2)), scores.reshape(n, k)
