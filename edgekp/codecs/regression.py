"""Direct coordinate regression: the network says positions, as fractions of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgekp.sample import Float, Int, Target


@dataclass(frozen=True)
class Regression:
    """Coordinates from the input's centre, as a fraction of its width and height: -0.5 to 0.5 inside the input.

    A regressed position carries no confidence, so every score is 1.
    """

    input_hw: tuple[int, int]

    outputs: ClassVar[tuple[str, ...]] = ("coordinates",)

    @property
    def _size_wh(self) -> Float:
        return np.array([self.input_hw[1], self.input_hw[0]], dtype=np.float64)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Targets for (N, K, 2) keypoints in input pixels; only unlabelled keypoints weigh 0."""
        coordinates = (np.nan_to_num(keypoints_xy) - (self._size_wh - 1) / 2) / self._size_wh
        return Target({"coordinates": coordinates.astype(np.float32)}, (visibility > 0).astype(np.float32))

    def decode(self, outputs: dict[str, Float]) -> tuple[Float, Float]:
        """Keypoints (N, K, 2) in input pixels, and scores (N, K), all 1."""
        coordinates = np.asarray(outputs["coordinates"], dtype=np.float64)
        return coordinates * self._size_wh + (self._size_wh - 1) / 2, np.ones(coordinates.shape[:-1], np.float32)
