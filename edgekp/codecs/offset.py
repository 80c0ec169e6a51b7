"""A heatmap that says which cell a keypoint lies in, and offsets that say where in it (Papandreou et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from edgekp.codecs.grid import check_sigma, map_hw
from edgekp.codecs.heatmap import Heatmap
from edgekp.codecs.peaks import cells_xy, highest
from edgekp.sample import Float, Int, Target

REACH_IN_SIGMAS = 3.0  # the heatmap is below 0.012 beyond, so that an offset would hardly be learnt


@dataclass(frozen=True)
class HeatmapOffset:
    """Gaussian heatmaps (N, K, h, w), and offsets (N, 2K, h, w) in cells from a cell to its keypoint.

    Channels 2k and 2k + 1 of the offsets are x and y of keypoint k. They are drawn as far as the Gaussian reaches and
    are 0 beyond; the loss weighs each cell by the heatmap, as only cells that may win the argmax need an offset.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell. The centre of cell j lies at ``stride * j + (stride - 1) / 2``.
        sigma: spread of the Gaussian, in cells.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps", "offsets")

    def __post_init__(self) -> None:
        map_hw(self.input_hw, self.stride)
        check_sigma(self.sigma)

    @cached_property
    def heatmap(self) -> Heatmap:
        """The codec of the first output alone."""
        return Heatmap(self.input_hw, self.stride, self.sigma, refine="none")

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps for (N, K, 2) keypoints in input pixels; keypoints not labelled or out of reach weigh 0."""
        target = self.heatmap.encode(keypoints_xy, visibility)
        centers_xy = np.where(target.weight[..., None] > 0, self.heatmap.grid.to_cells(keypoints_xy), np.inf)
        return Target({**target.arrays, "offsets": self._offsets(centers_xy)}, target.weight)

    def _offsets(self, centers_xy: Float) -> Float:
        """(N, 2K, h, w): each channel is the distance along its own axis where the other axis is within reach."""
        n, k, _ = centers_xy.shape
        h, w = self.heatmap.grid.map_hw
        reach = REACH_IN_SIGMAS * self.sigma
        x, y = centers_xy[..., :1] - np.arange(w), centers_xy[..., 1:] - np.arange(h)
        near_x, near_y = np.abs(x) <= reach, np.abs(y) <= reach
        x, y = np.where(near_x, x, 0).astype(np.float32), np.where(near_y, y, 0).astype(np.float32)
        offsets = np.empty((n, k, 2, h, w), np.float32)
        np.multiply(x[..., None, :], near_y[..., :, None], out=offsets[:, :, 0])
        np.multiply(y[..., :, None], near_x[..., None, :], out=offsets[:, :, 1])
        return offsets.reshape(n, 2 * k, h, w)

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels, the highest cell and the offset read there, and scores (N, K).

        NaN never wins, ties go to the lowest index, and a map without a finite value scores 0. An offset that is not
        finite counts as 0.
        """
        maps = np.asarray(outputs["heatmaps"], dtype=np.float32)
        n, k, h, w = maps.shape
        at, scores = highest(maps.reshape(n * k, h, w))
        by_axis = np.asarray(outputs["offsets"], dtype=np.float32).reshape(n * k, 2, h * w)
        offset = by_axis[np.arange(n * k), :, at % (h * w)].astype(np.float64)
        cells = cells_xy(at, (h, w)) + np.where(np.isfinite(offset), offset, 0.0)
        return self.heatmap.grid.to_pixels(cells.reshape(n, k, 2)), scores.reshape(n, k)
