"""The One Euro filter for keypoints: still ones rest, quick ones are hardly delayed. Knows no person and no image.

Casiez, Roussel and Vogel, "1 € Filter", CHI 2012: a low-pass filter whose cut-off rises with the speed. Here the speed
is measured in sides of the person's box per second, so that the settings hold for any resolution and distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from edgekp.errors import RecipeError
from edgekp.sample import Bool, Float, Int

SHORTEST_S = 1e-6  # between frames, for sources that give two of them the same time


@dataclass(frozen=True)
class Filtered:
    """What the filter knows of N people.

    Attributes:
        keypoints_xy: (N, K, 2) smoothed, image pixels.
        speed_xy: (N, K, 2) smoothed, pixels per second.
        time_s: (N, K) when each keypoint was last sure; -inf for never.
    """

    keypoints_xy: Float
    speed_xy: Float
    time_s: Float

    @classmethod
    def nothing(cls, count: int, keypoints: int) -> Filtered:
        return cls(np.zeros((count, keypoints, 2)), np.zeros((count, keypoints, 2)),
                   np.full((count, keypoints), -np.inf))

    def take(self, rows: Int | Bool) -> Filtered:
        return Filtered(self.keypoints_xy[rows], self.speed_xy[rows], self.time_s[rows])

    def join(self, others: Filtered) -> Filtered:
        return Filtered(np.concatenate([self.keypoints_xy, others.keypoints_xy]),
                        np.concatenate([self.speed_xy, others.speed_xy]),
                        np.concatenate([self.time_s, others.time_s]))


@dataclass(frozen=True)
class OneEuro:
    """Settings of the filter.

    With these defaults and 30 frames a second a keypoint at rest, measured with an error of 0.5 % of the box, moves
    0.18 times as much from frame to frame, with 0.39 times the error. One that moves by a box's side in a second is
    11 ms late, by a tenth of that 46 ms (half a percent of the side). On two videos of somebody before a camera head
    and shoulders moved 0.34 and 0.44 times as much.

    Attributes:
        cutoff_hz: of a keypoint at rest; lower is calmer and slower.
        response_hz: by how much the cut-off rises for each side of the box that a keypoint moves in a second.
        speed_cutoff_hz: of the speed itself.
    """

    cutoff_hz: float = 1.0
    response_hz: float = 10.0
    speed_cutoff_hz: float = 1.0

    def __post_init__(self) -> None:
        if not (self.cutoff_hz > 0 and self.response_hz >= 0 and self.speed_cutoff_hz > 0):
            raise RecipeError(f"smoothing: cutoff_hz {self.cutoff_hz:g}, response_hz {self.response_hz:g}, "
                              f"speed_cutoff_hz {self.speed_cutoff_hz:g}; expected frequencies above 0, response_hz "
                              "0 or more")

    def step(self, past: Filtered, keypoints_xy: Float, sure: Bool, side_px: Float, time_s: float) -> Filtered:
        """The next state for (N, K, 2) keypoints, finite where ``sure`` (N, K), of people with boxes of side (N,).

        A keypoint that is not sure leaves its state as it was: when it is sure again, the time since it last was
        decides how much the past still counts.
        """
        known = sure & np.isfinite(past.time_s)
        elapsed_s = np.maximum(np.where(known, time_s - past.time_s, 1.0), SHORTEST_S)[..., None]
        measured = np.where(sure[..., None], keypoints_xy, past.keypoints_xy)
        step_xy = np.where(known[..., None], measured - past.keypoints_xy, 0.0)
        speed_xy = past.speed_xy + share(self.speed_cutoff_hz, elapsed_s) * (step_xy / elapsed_s - past.speed_xy)
        speed = np.hypot(speed_xy[..., 0], speed_xy[..., 1]) / side_px[:, None]
        cutoff_hz = (self.cutoff_hz + self.response_hz * speed)[..., None]
        smoothed = np.where(known[..., None], past.keypoints_xy + share(cutoff_hz, elapsed_s) * step_xy, measured)
        return Filtered(smoothed, np.where(known[..., None], speed_xy, past.speed_xy),
                        np.where(sure, time_s, past.time_s))


def share(cutoff_hz: float | Float, elapsed_s: Float) -> Float:
    """Of a new value in a first-order low-pass filter, 0 to 1."""
    turn = 2 * pi * cutoff_hz * elapsed_s
    return np.asarray(turn / (turn + 1))
