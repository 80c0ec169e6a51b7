"""UDP's combined targets: a disc of cells around each keypoint, and where in it that lies (Huang et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import inf, sqrt
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgekp.codecs.grid import Grid, map_hw
from edgekp.codecs.peaks import cells_xy, highest
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target

SMALLEST_RADIUS = sqrt(0.5)  # cells: how far the nearest cell's centre may be
BLUR_RADIUS = 11  # cells
BLUR_SIGMA = 3.8  # what OpenCV takes for a kernel of 23 cells whose sigma is not given


@dataclass(frozen=True)
class UDPCombined:
    """Maps (N, 3K, h, w): of keypoint k, channel 3k is its disc, 3k + 1 and 3k + 2 are the offsets along x and y.

    UDP measures in spaces between pixels: the centre of the first cell is that of the first pixel, the centre of the
    last cell that of the last pixel. A disc is 1 on all cells within ``radius`` of its keypoint. Offsets go from a
    cell to the keypoint, in radii; they are drawn on the whole map, but the loss reads them on the disc alone.

    Made for maps of about 64 cells: decoding smooths over 11 cells to each side, mirrored at the border, which drags
    the highest cell of a smaller map out of the disc, to where no offset is learnt.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: of the network, which sets the size of the maps.
        radius_factor: radius of the disc as a share of the map's longer side.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    radius_factor: float = 0.0546875

    outputs: ClassVar[tuple[str, ...]] = ("discs_and_offsets",)

    def __post_init__(self) -> None:
        if min(map_hw(self.input_hw, self.stride)) < 2:
            raise RecipeError(f"codec.stride: {self.stride} leaves a side of one cell; UDP needs two or more")
        if type(self.radius_factor) not in (int, float) or not 0 < self.radius_factor < inf:
            raise RecipeError(f"codec.radius_factor: {self.radius_factor!r}, expected a share of the map above 0")
        if self.radius < SMALLEST_RADIUS:
            raise RecipeError(f"codec.radius_factor: {self.radius_factor} makes discs of {self.radius:.2f} cells, "
                              f"expected {SMALLEST_RADIUS:.2f} or more, so that each holds the centre of a cell")

    @cached_property
    def grid(self) -> Grid:
        (height, width), (h, w) = self.input_hw, map_hw(self.input_hw, self.stride)
        return Grid((h, w), ((width - 1) / (w - 1), (height - 1) / (h - 1)))

    @property
    def radius(self) -> float:
        """Of the disc, in cells."""
        return self.radius_factor * max(self.grid.map_hw)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; keypoints not labelled, or without a cell in reach, weigh 0."""
        n, k = visibility.shape
        h, w = self.grid.map_hw
        centers_xy = self.grid.to_cells(np.asarray(keypoints_xy, dtype=np.float64))
        x = (centers_xy[..., :1] - np.arange(w)) / self.radius
        y = (centers_xy[..., 1:] - np.arange(h)) / self.radius
        discs = (x**2)[..., None, :] + (y**2)[..., :, None] <= 1
        learnt = (visibility > 0) & discs.any((-1, -2))
        maps = np.empty((n, k, 3, h, w), np.float32)
        maps[:, :, 0] = discs & learnt[..., None, None]
        maps[:, :, 1] = np.where(learnt[..., None], x, 0.0)[..., None, :]
        maps[:, :, 2] = np.where(learnt[..., None], y, 0.0)[..., :, None]
        return Target({"discs_and_offsets": maps.reshape(n, 3 * k, h, w)}, learnt.astype(np.float32))

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K), the height of the smoothed disc.

        Of a perfect disc that is ``1 - exp(-radius**2 / (2 * 3.8**2))``, 0.35 for 256 x 192, and 0.38 at a border.
        What is not finite counts as 0, in the disc and in the offsets; ties go to the lowest index.
        """
        maps = np.asarray(outputs["discs_and_offsets"], dtype=np.float32)
        n, channels, h, w = maps.shape
        maps = np.where(np.isfinite(maps), maps, 0).reshape(-1, 3, h, w)
        smooth = _blur_matrix(h) @ maps[:, 0].astype(np.float64) @ _blur_matrix(w).T
        at, scores = highest(smooth)
        offset = maps[:, 1:].reshape(-1, 2, h * w)[np.arange(len(maps)), :, at % (h * w)].astype(np.float64)
        cells = cells_xy(at, (h, w)) + self.radius * offset
        return self.grid.to_pixels(cells.reshape(n, channels // 3, 2)), scores.reshape(n, channels // 3)


@lru_cache(maxsize=8)
def _blur_matrix(length: int) -> Float:
    """(length, length) weights of all cells for each blurred one: a disc is flat, its blurred middle is not.

    Beyond its outermost cells the map goes on as its mirror image.
    """
    kernel = np.exp(-0.5 * (np.arange(-BLUR_RADIUS, BLUR_RADIUS + 1) / BLUR_SIGMA) ** 2)
    sources = sliding_window_view(np.pad(np.arange(length), BLUR_RADIUS, mode="reflect"), len(kernel))
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], sources), kernel / kernel.sum())
    return matrix
