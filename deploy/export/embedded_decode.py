"""Decoders of the codecs as torch modules, so that a network's file can say keypoints.

Each says what its codec's ``decode`` says, in float32: NaN never wins, ties go to the lowest index, and a map without a
finite value scores 0. Knows no image: keypoints are in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, pi

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekp.codecs import Codec, Heatmap, HeatmapOffset, Integral, Regression, SimCC
from edgekp.codecs.dark import BLUR_REACH_IN_SIGMAS, DERIVATIVES, FLOOR, LONGEST_STEP
from edgekp.codecs.grid import Grid
from edgekp.codecs.peaks import FLOAT32_MAX
from edgekp.errors import RecipeError
from edgekp.sample import Bool, Float, Int

SIDE = 5  # cells around a peak that DARK looks at; on a smaller map no peak is two cells from the border


def decoder_of(codec: Codec) -> nn.Module:
    """The module that makes keypoints (N, K, 3) of a codec's outputs: x, y and score.

    Raises:
        RecipeError: The codec decodes in a way that has no module here.
    """
    if type(codec) not in DECODERS or (isinstance(codec, Heatmap) and codec.peaks > 1):
        several = " with peaks above 1" if isinstance(codec, Heatmap) else ""
        known = ", ".join(kind.__name__ for kind in DECODERS)
        raise RecipeError(f"export.embed: 'decode', but {type(codec).__name__}{several} is decoded outside the graph "
                          f"alone; known: {known}; leave 'decode' out")
    return DECODERS[type(codec)](codec)


class _Cells(nn.Module):
    """What each position of a flat map means: its cell, and the steps to its neighbours."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        h, w = grid.map_hw
        self.map_hw, self.length = (h, w), h * w
        y, x = np.divmod(np.arange(h * w), w)
        inside_x, inside_y = (x > 0) & (x < w - 1), (y > 0) & (y < h - 1)
        self.xy = _table(np.stack([x, y], 1), torch.float32)
        self.steps = _table(np.stack([inside_x, w * inside_y], 1), torch.int64)
        self.two_inside = _table((x > 1) & (x < w - 2) & (y > 1) & (y < h - 2), torch.bool)
        self.middle = _table(np.clip(y, 2, h - 3) * w + np.clip(x, 2, w - 3), torch.int64)
        self.around = _table((np.arange(-2, 3)[:, None] * w + np.arange(-2, 3)).ravel(), torch.int64)
        self.stride = _table(np.array(grid.stride_xy), torch.float32)
        self.origin = float(grid.origin)

    def to_pixels(self, cells_xy: Tensor) -> Tensor:
        return cells_xy * self.stride + self.origin


class HeatmapDecoder(nn.Module):
    """The highest cell of each map, refined as the codec says."""

    def __init__(self, codec: Heatmap) -> None:
        super().__init__()
        self.cells = _Cells(codec.grid)
        self.refine = "none" if codec.refine == "dark" and min(codec.grid.map_hw) < SIDE else codec.refine
        self.reach = ceil(BLUR_REACH_IN_SIGMAS * codec.sigma)
        taps = np.exp(-0.5 * (np.arange(-self.reach, self.reach + 1) / codec.sigma) ** 2)
        self.taps = _table(taps / taps.sum(), torch.float32)
        self.derivatives = _table(DERIVATIVES.T, torch.float32)

    def forward(self, maps: Tensor) -> Tensor:
        flat = maps.reshape(-1, maps.shape[1], self.cells.length)
        at, scores = _highest(flat)
        cells = self.cells.xy[at.squeeze(-1)]
        flat = flat.masked_fill(torch.isnan(flat), 0).clamp(-FLOAT32_MAX, FLOAT32_MAX)
        if self.refine == "dark":
            cells = cells + self._dark(flat, at)
        elif self.refine != "none":
            cells = cells + self._by_neighbours(flat, at)
        return torch.cat([self.cells.to_pixels(cells), scores], -1)

    def _by_neighbours(self, flat: Tensor, at: Tensor) -> Tensor:
        """(N, K, 2) a quarter towards the higher neighbour, or to the top of a parabola, one axis at a time."""
        steps = self.cells.steps[at.squeeze(-1)]
        before, here, after = (flat.gather(-1, at + sign * steps) for sign in (-1, 0, 1))
        if self.refine == "quarter":
            return 0.25 * torch.sign(after - before)
        bend = (here - before) + (here - after)
        return (0.5 * (after - before) / bend.masked_fill(bend <= 0, FLOAT32_MAX)).clamp(-0.5, 0.5)

    def _dark(self, flat: Tensor, at: Tensor) -> Tensor:
        """(N, K, 2) one Newton step on the log of the smoothed map, as ``edgekp.codecs.dark``."""
        (h, w), k = self.cells.map_hw, flat.shape[1]
        down = F.conv2d(flat.reshape(-1, 1, h, w), self.taps[None, None, :, None], padding=(self.reach, 0))
        smooth = F.conv2d(down, self.taps[None, None, None, :], padding=(0, self.reach)).reshape(-1, k, h * w)
        place = at.squeeze(-1)
        near = smooth.gather(-1, self.cells.middle[place][..., None] + self.cells.around)
        x, y, xx, yy, xy = (near.clamp(min=FLOOR).log() @ self.derivatives).chunk(5, -1)
        bend = xx * yy - xy * xy
        step = torch.cat([xy * y - yy * x, xy * x - xx * y], -1) / bend.masked_fill(bend == 0, FLOAT32_MAX)
        inside = self.cells.two_inside[place][..., None]
        short = step.abs().amax(-1, keepdim=True) <= LONGEST_STEP
        refined: Tensor = step.masked_fill(~(inside & short), 0)
        return refined


class OffsetDecoder(nn.Module):
    """The highest cell of each map, and the offset read there."""

    def __init__(self, codec: HeatmapOffset) -> None:
        super().__init__()
        self.cells = _Cells(codec.heatmap.grid)

    def forward(self, maps: Tensor, offsets: Tensor) -> Tensor:
        k, length = maps.shape[1], self.cells.length
        at, scores = _highest(maps.reshape(-1, k, length))
        offset = offsets.reshape(-1, k, 2, length).gather(-1, torch.stack([at, at], -2)).squeeze(-1)
        offset = offset.masked_fill(~(offset.abs() <= FLOAT32_MAX), 0)
        return torch.cat([self.cells.to_pixels(self.cells.xy[at.squeeze(-1)] + offset), scores], -1)


class SimCCDecoder(nn.Module):
    """The highest bin along each axis; the score is the lower one of the two peaks."""

    def __init__(self, codec: SimCC) -> None:
        super().__init__()
        self.split = float(codec.split)

    def forward(self, bins_x: Tensor, bins_y: Tensor) -> Tensor:
        (x, score_x), (y, score_y) = _highest(bins_x), _highest(bins_y)
        return torch.cat([x / self.split, y / self.split, torch.minimum(score_x, score_y)], -1)


class RegressionDecoder(nn.Module):
    """Fractions of the input as pixels; a regressed position has the score 1."""

    def __init__(self, codec: Regression) -> None:
        super().__init__()
        size_wh = np.array(codec.input_hw[::-1])
        self.size, self.middle = _table(size_wh, torch.float32), _table((size_wh - 1) / 2, torch.float32)

    def forward(self, coordinates: Tensor) -> Tensor:
        return F.pad(coordinates * self.size + self.middle, (0, 1), value=1.0)


class IntegralDecoder(nn.Module):
    """The mean position under the softmax of each map; a logit that is not finite has no weight."""

    def __init__(self, codec: Integral) -> None:
        super().__init__()
        self.cells, self.height_of_sure = _Cells(codec.grid), 2 * pi * codec.sigma**2

    def forward(self, maps: Tensor) -> Tensor:
        flat = maps.reshape(-1, maps.shape[1], self.cells.length)
        flat = flat.masked_fill(~(flat.abs() <= FLOAT32_MAX), -FLOAT32_MAX)
        weights = flat.softmax(-1)
        speaks = flat.amax(-1, keepdim=True) > -FLOAT32_MAX
        scores = (weights.amax(-1, keepdim=True) * self.height_of_sure).clamp(max=1).masked_fill(~speaks, 0)
        return torch.cat([self.cells.to_pixels(weights @ self.cells.xy), scores], -1)


DECODERS: dict[type[Codec], Callable[..., nn.Module]] = {
    Heatmap: HeatmapDecoder, HeatmapOffset: OffsetDecoder, SimCC: SimCCDecoder, Regression: RegressionDecoder,
    Integral: IntegralDecoder}


def _highest(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Position and height (N, K, 1) of the highest of (N, K, length)."""
    flat = flat.masked_fill(torch.isnan(flat), -FLOAT32_MAX)
    at = flat.argmax(-1, keepdim=True)
    heights = flat.gather(-1, at)
    return at, heights.masked_fill(heights.abs() >= FLOAT32_MAX, 0)


def _table(values: Float | Int | Bool, dtype: torch.dtype) -> nn.Parameter:
    """Numbers that a module holds and nobody learns."""
    return nn.Parameter(torch.as_tensor(np.ascontiguousarray(values), dtype=dtype), requires_grad=False)
