"""Gaussian heatmaps, encoded without rounding and decoded with DARK (Zhang et al., CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf
from typing import ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target

REACH_IN_SIGMAS = 3.0  # a keypoint further than this outside the map leaves nothing on it to learn
BLUR_REACH_IN_SIGMAS = 2.5  # radius of DARK's smoothing kernel: 11 cells for sigma 2, as in the paper's code
LONGEST_STEP = 2.0  # cells; on a map without a peak the parabola's top lies anywhere, and the argmax is kept
FLOOR = 1e-10  # smallest value whose logarithm is taken


@dataclass(frozen=True)
class Heatmap:
    """One map per keypoint with an unnormalised Gaussian (peak 1) at its position.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell. The centre of cell j lies at ``stride * j + (stride - 1) / 2``.
        sigma: spread of the Gaussian, in cells.
        refine: sub-cell refinement: ``dark`` fits a parabola to the log of the smoothed map, ``none`` is the argmax.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0
    refine: Literal["dark", "none"] = "dark"

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)

    def __post_init__(self) -> None:
        if type(self.stride) is not int:
            raise RecipeError(f"codec.stride: {self.stride!r}, expected a whole number of pixels")
        if self.stride < 1 or any(side % self.stride for side in self.input_hw):
            raise RecipeError(f"codec.stride: {self.stride} does not divide input_hw {list(self.input_hw)}")
        if type(self.sigma) not in (int, float) or not 0 < self.sigma < inf:
            raise RecipeError(f"codec.sigma: {self.sigma!r}, expected a number of cells above 0")
        if self.refine not in ("dark", "none"):
            raise RecipeError(f"codec.refine: '{self.refine}', expected dark or none")

    @property
    def map_hw(self) -> tuple[int, int]:
        return self.input_hw[0] // self.stride, self.input_hw[1] // self.stride

    def to_cells(self, xy: Float) -> Float:
        """Input pixels to cells; exact under mirroring, unlike division by the stride."""
        return (xy + 0.5) / self.stride - 0.5

    def to_pixels(self, cells: Float) -> Float:
        """Cells to input pixels, the inverse of ``to_cells``."""
        return (cells + 0.5) * self.stride - 0.5

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; keypoints not labelled or out of reach weigh 0."""
        h, w = self.map_hw
        cells = self.to_cells(np.asarray(keypoints_xy, dtype=np.float64))
        reach = REACH_IN_SIGMAS * self.sigma
        inside = ((cells > -0.5 - reach) & (cells < np.array([w, h]) - 0.5 + reach)).all(-1)
        weight = ((visibility > 0) & inside).astype(np.float32)
        profile_x = self._profile(cells[..., 0], w)
        profile_y = self._profile(cells[..., 1], h) * weight[..., None]
        return Target({"heatmaps": profile_y[..., :, None] * profile_x[..., None, :]}, weight)

    def _profile(self, centers: Float, length: int) -> Float:
        """(..., length) float32: the Gaussian along one axis; the map is the product of two."""
        squared = (np.arange(length) - np.nan_to_num(centers)[..., None]) ** 2
        return np.exp(squared * (-0.5 / self.sigma**2)).astype(np.float32)

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K), the height of each map's peak.

        NaN never wins, ties go to the lowest index, and a map without a finite value scores 0.
        """
        maps = np.asarray(outputs["heatmaps"], dtype=np.float32)
        n, k, h, w = maps.shape
        flat = np.where(np.isnan(maps), -np.inf, maps).reshape(n, k, h * w)
        peak = flat.argmax(-1)
        scores = np.take_along_axis(flat, peak[..., None], -1)[..., 0]
        scores = np.where(np.isfinite(scores), scores, 0.0).astype(np.float32)
        cells = np.stack([peak % w, peak // w], axis=-1).astype(np.float64)
        if self.refine == "dark":
            cells = cells + self._dark_offset(maps.reshape(n * k, h, w), peak.reshape(-1)).reshape(n, k, 2)
        return self.to_pixels(cells), scores

    def _dark_offset(self, maps: Float, peak: Int) -> Float:
        """(M, 2) offset in cells: one Newton step on the log of the smoothed map, from the 5 x 5 cells at the peak."""
        _, h, w = maps.shape
        x, y = peak % w, peak // w
        logs = np.log(np.maximum(self._smoothed_neighbourhood(maps, x, y), FLOOR))
        gradient = 0.5 * np.stack([logs[:, 2, 3] - logs[:, 2, 1], logs[:, 3, 2] - logs[:, 1, 2]], -1)
        xx = 0.25 * (logs[:, 2, 4] - 2 * logs[:, 2, 2] + logs[:, 2, 0])
        yy = 0.25 * (logs[:, 4, 2] - 2 * logs[:, 2, 2] + logs[:, 0, 2])
        xy = 0.25 * (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1])
        determinant = xx * yy - xy * xy
        interior = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2)
        usable = interior & (determinant != 0) & np.isfinite(determinant)
        step = -np.stack([yy * gradient[:, 0] - xy * gradient[:, 1], xx * gradient[:, 1] - xy * gradient[:, 0]], -1)
        step = np.where(usable[:, None], step / np.where(usable, determinant, 1.0)[:, None], 0.0)
        return np.where((np.abs(step) <= LONGEST_STEP).all(-1, keepdims=True), step, 0.0)

    def _smoothed_neighbourhood(self, maps: Float, x: Int, y: Int) -> Float:
        """(M, 5, 5) Gaussian-blurred values around each peak, without blurring the rest of the map."""
        kernel = _blur_matrix(self.sigma)
        reach = kernel.shape[1] // 2
        padded = np.pad(np.nan_to_num(maps), ((0, 0), (reach, reach), (reach, reach)))
        windows = sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), axis=(1, 2))
        patches = windows[np.arange(len(maps)), y, x].astype(np.float64)
        return np.asarray(kernel @ patches @ kernel.T)


@lru_cache(maxsize=8)
def _blur_matrix(sigma: float) -> Float:
    """(5, 5 + 2r) rows of a normalised Gaussian kernel of radius r, one row per blurred cell."""
    radius = ceil(BLUR_REACH_IN_SIGMAS * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    matrix = np.zeros((5, 5 + 2 * radius))
    for row in range(5):
        matrix[row, row:row + 2 * radius + 1] = kernel / kernel.sum()
    return matrix
