"""Gaussian heatmaps, encoded without rounding; decoded with DARK or a simpler refinement of the highest cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import ClassVar, Literal

import numpy as np

from edgekp.codecs.dark import dark_offset
from edgekp.codecs.grid import Grid, check_sigma, pixel_grid
from edgekp.codecs.peaks import cells_xy, highest, quadratic_offset, quarter_offset, several_highest
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target

DRAWN_IN_SIGMAS = 6.0  # what is left out is below exp(-18), a quarter of the last bit of the peak's float32
MARGIN_IN_SIGMAS = 3.0  # a keypoint further than this outside the map leaves nothing on it to learn
FUSED_WITHIN_SIGMAS = 3.0  # peaks further apart are two keypoints, not two opinions about one
REFINEMENTS = ("dark", "quadratic", "quarter", "none")


@dataclass(frozen=True)
class Heatmap:
    """One map per keypoint with an unnormalised Gaussian (peak 1) at its position.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell. The centre of cell j lies at ``stride * j + (stride - 1) / 2``.
        sigma: spread of the Gaussian, in cells.
        refine: from the highest cell to a position: ``dark`` fits a parabola to the log of the smoothed map,
            ``quadratic`` one to the map itself, along each axis; ``quarter`` goes a quarter of a cell towards the
            higher neighbour; ``none`` stays.
        peaks: so many local maxima at most are fused: the position is their mean weighted by height, over those within
            3 sigma of the highest and above half of it. For maps that hesitate between two places; goes best with
            ``quadratic``, as DARK smooths two close peaks into one before it looks.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0
    refine: Literal["dark", "quadratic", "quarter", "none"] = "dark"
    peaks: int = 1

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)

    def __post_init__(self) -> None:
        pixel_grid(self.input_hw, self.stride)  # refuses a stride that makes no grid
        check_sigma(self.sigma)
        if self.refine not in REFINEMENTS:
            raise RecipeError(f"codec.refine: '{self.refine}', expected {', '.join(REFINEMENTS[:-1])} or none")
        if type(self.peaks) is not int or self.peaks < 1:
            raise RecipeError(f"codec.peaks: {self.peaks!r}, expected a whole number above 0; 1 fuses nothing")

    @cached_property
    def grid(self) -> Grid:
        return pixel_grid(self.input_hw, self.stride)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; keypoints not labelled or out of reach weigh 0."""
        import edgekp.codecs.gaussian_kernel as kernel

        maps, weight = kernel.draw_gaussians(
            keypoints_xy, visibility, self.grid, self.sigma,
            reach=ceil(DRAWN_IN_SIGMAS * self.sigma), margin=MARGIN_IN_SIGMAS * self.sigma)
        return Target({"heatmaps": maps}, weight)

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K), the height of each map's peak.

        NaN never wins, ties go to the lowest index, and a map without a finite value scores 0.
        """
        maps = np.ascontiguousarray(outputs["heatmaps"], dtype=np.float32)
        n, k, h, w = maps.shape
        maps = maps.reshape(n * k, h, w)
        at, scores = highest(maps)
        cells = self._refined(maps, at) if self.peaks == 1 else self._fused(maps, at)
        return self.grid.to_pixels(cells.reshape(n, k, 2)), scores.reshape(n, k)

    def _refined(self, maps: Float, at: Int) -> Float:
        """(P, 2) cells of the peaks at those positions in the flat maps."""
        _, h, w = maps.shape
        cells = cells_xy(at, (h, w))
        if self.refine == "dark":
            return cells + dark_offset(maps, at, self.sigma)
        if self.refine == "quadratic":
            return cells + quadratic_offset(maps, at)
        return cells + quarter_offset(maps, at) if self.refine == "quarter" else cells

    def _fused(self, maps: Float, at: Int) -> Float:
        """(P, 2) cells: the mean of the local maxima near each peak, each refined, weighted by height."""
        places, heights = several_highest(maps, at, self.peaks, FUSED_WITHIN_SIGMAS * self.sigma)
        cells = self._refined(maps, places.reshape(-1)).reshape(*places.shape, 2)
        return np.asarray((cells * heights[..., None]).sum(1) / heights.sum(1, keepdims=True))
