"""SimCC: a keypoint as two classifications, over the bins of x and of y (Li et al., ECCV 2022; RTMPose, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi, sqrt
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from edgekp.codecs.peaks import highest
from edgekp.errors import RecipeError
from edgekp.sample import Bool, Float, Int, Target

REACH_IN_SIGMAS = 3.0  # a keypoint further than this outside the bins leaves nothing on them to learn
Smoothing = Literal["gaussian", "normalised_gaussian", "standard"]


@dataclass(frozen=True)
class SimCC:
    """Bins (N, K, bins) along x and along y, each with its highest value where the keypoint is.

    The centre of bin b lies at ``b / split``, the convention of networks trained elsewhere. The bins therefore reach
    ``(split - 1) / split`` pixels further past the last pixel's centre than past the first one's: whoever reverses
    the bins of a mirrored input must shift them by ``split - 1`` bins.

    Attributes:
        split: bins per input pixel; a keypoint is rounded to a bin, so decoding is exact to ``1 / (2 * split)`` pixels.
        smoothing: ``gaussian`` has the peak 1 (RTMPose), ``normalised_gaussian`` the sum 1 far from the border;
            ``standard`` spreads ``label_smoothing`` evenly over the bins that are not the keypoint's.
        sigma_xy: spread of the Gaussians along x and y, in bins; by default RTMPose's rule, the root of ``bins / 16``.
        label_smoothing: what ``standard`` takes from the keypoint's bin.
    """

    input_hw: tuple[int, int]
    split: float = 2.0
    smoothing: Smoothing = "gaussian"
    sigma_xy: tuple[float, ...] = ()
    label_smoothing: float = 0.1

    outputs: ClassVar[tuple[str, ...]] = ("simcc_x", "simcc_y")

    def __post_init__(self) -> None:
        if type(self.split) not in (int, float) or not 1 <= self.split < inf:
            raise RecipeError(f"codec.split: {self.split!r}, expected 1 or more bins per pixel")
        if self.smoothing not in get_args(Smoothing):
            raise RecipeError(f"codec.smoothing: '{self.smoothing}', expected {' or '.join(get_args(Smoothing))}")
        if type(self.label_smoothing) not in (int, float) or not 0 <= self.label_smoothing < 1:
            raise RecipeError(f"codec.label_smoothing: {self.label_smoothing!r}, expected a share from 0 to below 1")
        sigma_xy = tuple(sqrt(bins / 16) for bins in self.bins_xy) if self.sigma_xy == () else self.sigma_xy
        if not isinstance(sigma_xy, (tuple, list)) or len(sigma_xy) != 2 or not all(map(_is_spread, sigma_xy)):
            raise RecipeError(f"codec.sigma_xy: {self.sigma_xy!r}, expected two numbers of bins above 0")
        object.__setattr__(self, "sigma_xy", tuple(sigma_xy))  # a manifest gives a list

    @property
    def bins_xy(self) -> tuple[int, int]:
        """Bins along x and along y."""
        return round(self.input_hw[1] * self.split), round(self.input_hw[0] * self.split)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Bins for (N, K, 2) keypoints in input pixels; keypoints not labelled or out of reach weigh 0.

        Out of reach is 3 sigma outside the bins for Gaussians, and any place outside them for ``standard``.
        """
        nearest_xy = np.rint(np.asarray(keypoints_xy, dtype=np.float64) * self.split)
        weight = (visibility > 0) & self._in_reach(nearest_xy)
        nearest_xy = np.where(weight[..., None], nearest_xy, 0.0)
        arrays = {name: (self._profile(nearest_xy[..., axis, None], axis) * weight[..., None]).astype(np.float32)
                  for axis, name in enumerate(self.outputs)}
        return Target(arrays, weight.astype(np.float32))

    def _in_reach(self, nearest_xy: Float) -> Bool:
        reach = 0.0 if self.smoothing == "standard" else REACH_IN_SIGMAS * np.array(self.sigma_xy)
        last = np.array(self.bins_xy) - 1
        return np.asarray(((nearest_xy >= -reach) & (nearest_xy <= last + reach)).all(-1))

    def _profile(self, nearest: Float, axis: int) -> Float:
        """(N, K, bins) around (N, K, 1) bins."""
        bins, sigma = np.arange(self.bins_xy[axis]), self.sigma_xy[axis]
        if self.smoothing == "standard":
            return np.where(bins == nearest, 1 - self.label_smoothing, self.label_smoothing / (len(bins) - 1))
        gaussian = np.exp((bins - nearest) ** 2 * (-0.5 / sigma**2))
        return gaussian / (sigma * sqrt(2 * pi)) if self.smoothing == "normalised_gaussian" else gaussian

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels and scores (N, K), the lower one of the two peaks.

        NaN never wins, ties go to the lowest index, and bins without a finite value score 0.
        """
        (x, score_x), (y, score_y) = (_highest_bin(outputs[name]) for name in self.outputs)
        return np.stack([x, y], -1) / self.split, np.minimum(score_x, score_y)


def _highest_bin(bins: Float) -> tuple[Int, Float]:
    """Index and height (N, K) of the highest of (N, K, bins)."""
    n, k, length = bins.shape
    at, heights = highest(np.asarray(bins, dtype=np.float32).reshape(n * k, 1, length))
    return (at % length).reshape(n, k), heights.reshape(n, k)


def _is_spread(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < inf
