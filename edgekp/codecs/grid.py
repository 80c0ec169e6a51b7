"""Where the cells of a map lie over the input, and what makes a grid impossible. Knows no target and no network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np

from edgekp.errors import RecipeError
from edgekp.sample import Float


@dataclass(frozen=True)
class Grid:
    """Cells of a map of ``map_hw``, whose cell (0, 0) has its centre at input pixel (origin, origin).

    Attributes:
        stride_xy: input pixels from the centre of a cell to that of the next.
    """

    map_hw: tuple[int, int]
    stride_xy: tuple[float, float] = (1.0, 1.0)
    origin: float = 0.0

    @cached_property
    def _stride(self) -> Float:
        return np.array(self.stride_xy, dtype=np.float64)

    def to_cells(self, pixels_xy: Float) -> Float:
        return (pixels_xy - self.origin) / self._stride

    def to_pixels(self, cells_xy: Float) -> Float:
        return cells_xy * self._stride + self.origin


def pixel_grid(input_hw: tuple[int, int], stride: int) -> Grid:
    """Cells of stride x stride pixels that tile the input, so that mirroring the map mirrors the input."""
    return Grid(map_hw(input_hw, stride), (float(stride), float(stride)), (stride - 1) / 2)


def map_hw(input_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of a map.

    Raises:
        RecipeError: The stride does not divide the input.
    """
    if type(stride) is not int:
        raise RecipeError(f"codec.stride: {stride!r}, expected a whole number of pixels")
    if stride < 1 or any(side % stride for side in input_hw):
        raise RecipeError(f"codec.stride: {stride} does not divide input_hw {list(input_hw)}; choose one that does")
    return input_hw[0] // stride, input_hw[1] // stride


def check_sigma(sigma: float) -> None:
    if type(sigma) not in (int, float) or not 0 < sigma < inf:
        raise RecipeError(f"codec.sigma: {sigma!r}, expected a number of cells above 0")
