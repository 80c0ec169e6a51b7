"""Heatmaps of Megvii's CPN and MSPN (Chen et al. 2018, Li et al. 2019), for networks that were trained with them.

Biased: encoding cuts a keypoint down to the cell that holds it, and decoding answers with the cell's middle, so that it
comes back up to half a cell away. And the middle of cell j is taken to be input pixel ``stride * (j + 1/2)``, half a
pixel too far: a mirrored map decodes one pixel right of the mirrored keypoint. ``Heatmap`` has neither fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np

from edgekp.codecs.dark import blur
from edgekp.codecs.grid import Grid, map_hw
from edgekp.codecs.peaks import cells_xy, highest, quarter_offset
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target

PEAK = 255.0


@dataclass(frozen=True)
class Megvii:
    """One map per keypoint: a blurred impulse in the cell that holds it, with a peak of 255.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell.
        kernel_size: cells across the blur: 11 for maps of 64 x 48, 15 for 96 x 72.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    kernel_size: int = 11

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)

    def __post_init__(self) -> None:
        map_hw(self.input_hw, self.stride)  # refuses a stride that makes no grid
        if type(self.kernel_size) is not int or self.kernel_size < 11 or self.kernel_size % 2 == 0:
            raise RecipeError(f"codec.kernel_size: {self.kernel_size!r}, expected an odd number of cells from 11 on")

    @cached_property
    def grid(self) -> Grid:
        return Grid(map_hw(self.input_hw, self.stride), (self.stride, self.stride))

    @property
    def sigma(self) -> float:
        """OpenCV's spread for a kernel of that size, cells; it has a table of its own for those below 11."""
        return 0.3 * ((self.kernel_size - 1) * 0.5 - 1) + 0.8

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; one not labelled, or outside the map, weighs 0."""
        h, w = self.grid.map_hw
        cells = np.trunc(self.grid.to_cells(keypoints_xy))
        seen = (visibility > 0) & ((cells >= 0) & (cells < (w, h))).all(-1)
        column, row = np.moveaxis(np.where(seen[..., None], cells, 0).astype(np.int64), -1, 0)
        weight = seen.astype(np.float32)
        across = _blurred_impulses(self.sigma, self.kernel_size // 2, w)[column]
        down = _blurred_impulses(self.sigma, self.kernel_size // 2, h)[row] * (PEAK * weight[..., None])
        return Target({"heatmaps": down[..., :, None] * across[..., None, :]}, weight)

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K): the height of each map's peak / 255 + 0.5.

        The highest cell of the smoothed map; but in the outermost cells and the second from the left and the top,
        its middle plus a quarter of a cell towards the higher neighbour of each axis.
        """
        maps = np.ascontiguousarray(outputs["heatmaps"], dtype=np.float32)
        n, k, h, w = maps.shape
        maps = maps.reshape(n * k, h, w)
        _, heights = highest(maps)
        scores = np.where(np.isfinite(maps).any((1, 2)), heights / PEAK + 0.5, 0).astype(np.float32)
        smoothed = blur(maps, self.sigma, self.kernel_size // 2)
        at, _ = highest(smoothed)
        cells = cells_xy(at, (h, w))
        refined = ((cells > 1) & (cells < (w - 1, h - 1))).all(-1, keepdims=True)
        cells += np.where(refined, quarter_offset(smoothed, at) + 0.5, 0.0)
        return self.grid.to_pixels(cells.reshape(n, k, 2)), scores.reshape(n, k)


@lru_cache(maxsize=8)
def _blurred_impulses(sigma: float, reach: int, length: int) -> Float:
    """(length, length) float32: row c is the profile of an impulse in cell c, blurred, with a peak of 1 there.

    What is blurred over the border comes back, mirrored at the outermost cell: OpenCV's border rule 101.
    """
    sources = np.pad(np.arange(length), reach, mode="reflect")
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    profiles = np.zeros((length, length))
    for step, value in enumerate(kernel):
        profiles[sources[step:step + length], np.arange(length)] += value
    return (profiles / profiles.diagonal()[:, None]).astype(np.float32)
