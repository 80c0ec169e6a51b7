"""Integral maps: a keypoint is the mean position under the softmax of its map (Sun et al., ECCV 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import ClassVar

import numpy as np

from edgekp.codecs.grid import Grid, check_sigma, map_hw
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target

NARROWEST = 0.5  # cells; the mean of a narrower Gaussian no longer follows its centre, but jumps from cell to cell
EDGE = 0.05  # cells; a mean on an outermost cell's centre itself would need infinite logits
LOWEST_LOGIT = -40.0  # a weight of 4e-18, and a number that float16 can hold
NEWTON_STEPS = 12  # an error of 1e-13 cells for every map and sigma; 10 leave 1e-5


@dataclass(frozen=True)
class Integral:
    """One map of logits per keypoint; its softmax is a Gaussian whose mean is the keypoint.

    Choose it over ``regression`` with head ``integral``, which takes the same mean inside the network, where a score
    is wanted: the map says how sure the network is. The other one sends 2K numbers from the device's accelerator
    instead of K maps, and leaves nothing to decode.

    A mean lies between the centres of the outermost cells, so that a keypoint beyond them, less than half a cell
    inside the input's border, is drawn onto them.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell. The centre of cell j lies at ``stride * j + (stride - 1) / 2``.
        sigma: spread of the Gaussian, in cells.
    """

    input_hw: tuple[int, int]
    stride: int = 4
    sigma: float = 2.0

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps",)

    def __post_init__(self) -> None:
        if min(map_hw(self.input_hw, self.stride)) < 2:
            raise RecipeError(f"codec.stride: {self.stride} leaves a side of one cell; a mean needs two or more")
        check_sigma(self.sigma)
        if self.sigma < NARROWEST:
            raise RecipeError(f"codec.sigma: {self.sigma!r}, expected {NARROWEST} or more cells for a mean")

    @cached_property
    def grid(self) -> Grid:
        return Grid(map_hw(self.input_hw, self.stride), (self.stride, self.stride), (self.stride - 1) / 2)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Logits for (N, K, 2) keypoints in input pixels; keypoints not labelled or outside the input weigh 0."""
        h, w = self.grid.map_hw
        cells = self.grid.to_cells(np.asarray(keypoints_xy, dtype=np.float64))
        inside = (np.abs(cells - [(w - 1) / 2, (h - 1) / 2]) <= [w / 2, h / 2]).all(-1)
        weight = np.asarray((visibility > 0) & inside)
        cells = np.where(weight[..., None], cells, 0.0)
        along_x, along_y = self._profile(cells[..., 0], w), self._profile(cells[..., 1], h)
        logits = np.maximum(along_y[..., :, None] + along_x[..., None, :], LOWEST_LOGIT)
        return Target({"heatmaps": (logits * weight[..., None, None]).astype(np.float32)}, weight.astype(np.float32))

    def _profile(self, means: Float, length: int) -> Float:
        """(..., length) logits, 0 at their peak, whose softmax has these means: a Gaussian's, as far as the map goes.

        The border cuts one side off and moves the mean inwards, so its centre moves outwards: Newton's method, which
        comes down to it from the mean without a miss, as the mean is a convex function of the centre near the border.
        """
        means = np.clip(means, EDGE, length - 1 - EDGE)[..., None]
        cells, centers = np.arange(length), means
        for _ in range(NEWTON_STEPS):
            weights = _softmax((cells - centers) ** 2 * (-0.5 / self.sigma**2))
            found = (weights * cells).sum(-1, keepdims=True)
            variance = (weights * (cells - found) ** 2).sum(-1, keepdims=True)
            centers = centers + (means - found) * self.sigma**2 / variance
        logits = (cells - centers) ** 2 * (-0.5 / self.sigma**2)
        return np.asarray(logits - logits.max(-1, keepdims=True))

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels, and scores (N, K).

        The score is the height of the softmax's peak as a share of that of a Gaussian with ``sigma``, at most 1.
        A logit that is not finite has no weight; a map without a finite one says the middle, with score 0.
        """
        maps = np.asarray(outputs["heatmaps"], dtype=np.float64)
        n, k, h, w = maps.shape
        finite = np.isfinite(maps)
        speaks = np.asarray(finite.any((-1, -2)))
        logits = np.where(finite, maps, np.where(speaks, -np.inf, 0.0)[..., None, None])
        weights = _softmax(logits.reshape(n, k, h * w)).reshape(n, k, h, w)
        cells = np.stack([weights.sum(-2) @ np.arange(w), weights.sum(-1) @ np.arange(h)], -1)
        scores = np.minimum(weights.max((-1, -2)) * (2 * pi * self.sigma**2), 1.0)
        return self.grid.to_pixels(cells), (speaks * scores).astype(np.float32)


def _softmax(logits: Float) -> Float:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))
