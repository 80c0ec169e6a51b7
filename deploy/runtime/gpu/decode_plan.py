"""What the decoding kernels must know of a codec. Numpy alone: knows the kernels by name, but no GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, pi

import numpy as np

from edgekp.codecs import Codec, Heatmap, HeatmapOffset, Integral, Regression, SimCC
from edgekp.codecs.dark import BLUR_REACH_IN_SIGMAS
from edgekp.codecs.grid import Grid
from edgekp.preprocess import compose
from edgekp.sample import Float

REFINES = ("none", "quarter", "quadratic", "dark")  # by the number that the kernel knows
LONGEST_REACH = 12  # cells, as in cuda/top_down.cuh


@dataclass(frozen=True)
class DecodePlan:
    """How a codec's outputs are decoded on a GPU.

    Attributes:
        kernel: name in cuda/keypoints.cu without the suffix of the number's type.
        to_input: (2, 3) affine from the kernel's units (cells, bins, fractions of the input) to input pixels.
        refine: position in REFINES, for heatmaps.
        taps: (2 reach + 1,) float32 weights of DARK's blur, which sum to 1.
        sharpest: 1 over the height of a softmax's peak that scores 1, for means.
    """

    kernel: str
    to_input: Float
    refine: int = 0
    taps: Float = field(default_factory=lambda: np.ones(1, np.float32))
    sharpest: float = 1.0

    @property
    def reach(self) -> int:
        return len(self.taps) // 2

    def to_image(self, crop_to_image: Float) -> Float:
        """(N, 2, 3) float32 affines from the kernel's units to image pixels, of (N, 2, 3) from input pixels."""
        affines = [compose(affine, self.to_input) for affine in crop_to_image.astype(np.float64)]
        return np.asarray(affines, dtype=np.float32)


def plan_of(codec: Codec) -> DecodePlan | None:
    """The plan for a codec; None where the host must decode: several fused peaks, and conventions of other projects."""
    if isinstance(codec, Heatmap) and codec.peaks == 1:
        reach = ceil(BLUR_REACH_IN_SIGMAS * codec.sigma) if codec.refine == "dark" else 0
        if reach > LONGEST_REACH:
            return None
        refine = REFINES.index(codec.refine)
        return DecodePlan("decode_heatmaps", _cells_to_input(codec.grid), refine, _blur_taps(codec.sigma, reach))
    if isinstance(codec, HeatmapOffset):
        return DecodePlan("decode_offsets", _cells_to_input(codec.heatmap.grid))
    if isinstance(codec, Integral):
        return DecodePlan("decode_means", _cells_to_input(codec.grid), sharpest=2 * pi * codec.sigma**2)
    if isinstance(codec, SimCC):
        return DecodePlan("decode_simcc", _scale_and_shift((1 / codec.split, 1 / codec.split), (0.0, 0.0)))
    if isinstance(codec, Regression):
        h, w = codec.input_hw
        return DecodePlan("decode_coordinates", _scale_and_shift((w, h), ((w - 1) / 2, (h - 1) / 2)))
    return None


def _blur_taps(sigma: float, reach: int) -> Float:
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum(), dtype=np.float32)


def _cells_to_input(grid: Grid) -> Float:
    return _scale_and_shift(grid.stride_xy, (grid.origin, grid.origin))


def _scale_and_shift(scale_xy: tuple[float, float], shift_xy: tuple[float, float]) -> Float:
    return np.array([[scale_xy[0], 0.0, shift_xy[0]], [0.0, scale_xy[1], shift_xy[1]]])
