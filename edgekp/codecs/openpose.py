"""OpenPose: heatmaps and part affinity fields of a whole scene, from which several people are put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import ClassVar

import numpy as np

from edgekp.codecs.grid import Grid, map_hw
from edgekp.codecs.openpose_decode import decode_scene
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int, Target
from edgekp.skeletons import OPENPOSE18

LIMBS = np.array(OPENPOSE18.limbs)


@dataclass(frozen=True)
class OpenPose:
    """Where keypoints are, and which way limbs run (Cao et al., CVPR 2017), for the 18 keypoints of ``OPENPOSE18``.

    ``heatmaps`` (N, 19, h, w): the highest Gaussian (peak 1) of all people, and the background, 1 less the highest of
    all keypoints. ``pafs`` (N, 38, h, w): x and y of each limb's unit vector in cells within ``thickness`` of its line
    and of its bounding box; where people overlap, their mean.

    Attributes:
        input_hw: pixels of the network's input, a multiple of ``stride``.
        stride: input pixels per cell. The centre of cell j lies at ``stride * j + (stride - 1) / 2``.
        sigma: spread of the Gaussian, in input pixels.
        thickness: half the width of a limb, in cells.
    """

    input_hw: tuple[int, int]
    stride: int = 8
    sigma: float = 7.0
    thickness: float = 1.0

    outputs: ClassVar[tuple[str, ...]] = ("heatmaps", "pafs")

    def __post_init__(self) -> None:
        map_hw(self.input_hw, self.stride)
        for name, unit in (("sigma", "pixels"), ("thickness", "cells")):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < inf:
                raise RecipeError(f"codec.{name}: {value!r}, expected a number of {unit} above 0")

    @cached_property
    def grid(self) -> Grid:
        return Grid(map_hw(self.input_hw, self.stride), (self.stride, self.stride), (self.stride - 1) / 2)

    def encode(self, keypoints_xy: Float, visibility: Int) -> Target:
        """Maps of (N, P, 18, 2) keypoints in input pixels, with a weight for each cell, (N, h, w).

        Scenes with fewer than P people are filled up with people of visibility 0. Every weight is 1, also where nobody
        is: training puts 0 over people who are on the picture but not labelled.
        """
        from edgekp.codecs.openpose_kernel import draw_scenes

        heatmaps, pafs = draw_scenes(keypoints_xy, visibility, LIMBS, self.grid, self.sigma / self.stride,
                                     self.thickness)
        return Target({"heatmaps": heatmaps, "pafs": pafs}, np.ones((len(heatmaps), *self.grid.map_hw), np.float32))

    def decode(self, outputs: dict[str, Float]) -> list[tuple[Float, Float]]:
        """For each scene keypoints (P, 18, 2) in input pixels and scores (P, 18), the best person first.

        A score is the height of the keypoint's peak; one that was not found has score 0 and position 0. Peaks below
        0.1, and people with fewer than 4 keypoints, are left out. NaN is neither a peak nor a limb.
        """
        heatmaps = np.asarray(outputs["heatmaps"], dtype=np.float32)[:, :len(OPENPOSE18)]
        pafs = np.asarray(outputs["pafs"], dtype=np.float32)
        fields = pafs.reshape(len(pafs), len(LIMBS), 2, *pafs.shape[2:])
        return [self._person_pixels(*decode_scene(*scene, LIMBS)) for scene in zip(heatmaps, fields, strict=True)]

    def _person_pixels(self, cells_xy: Float, scores: Float) -> tuple[Float, Float]:
        return np.where(scores[..., None] > 0, self.grid.to_pixels(cells_xy), 0.0), scores
