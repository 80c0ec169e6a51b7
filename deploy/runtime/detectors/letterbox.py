"""A picture of any size in a network's input without distortion, and boxes back again. Knows no network's outputs.

Detectors count from a picture's edge: its first pixel reaches from 0 to 1. So the left edge of a box is the very x of
the project's boxes, whose first pixel x reaches from x - 0.5 to x + 0.5 around its centre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import cv2
import numpy as np

from edgekp.preprocess import InputSpec, normalise
from edgekp.sample import Float, Image

FREE_LONGEST = 640  # what all of these families are trained at, for inputs that take any size
FREE_MULTIPLE = 64  # the largest stride of a network with four levels


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the input, in whole pixels, as ``cv2.resize`` put it there."""

    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    left: int
    top: int

    def to_image(self, corners_xyxy: Float) -> Float:
        """(N, 4) edges in the input as edges in the image.

        By the size that the picture really has in the input. The families divide by the ratio that the size was
        rounded from, which puts the far edge of a wide picture up to a pixel of the input off.
        """
        to_image = np.array([self.image_hw[1] / self.resized_hw[1], self.image_hw[0] / self.resized_hw[0]] * 2)
        return np.asarray((corners_xyxy - np.array([self.left, self.top] * 2)) * to_image)


@dataclass(frozen=True)
class Letterbox:
    """How one family makes its input.

    Attributes:
        color: order of the input's channels.
        mean, std: per channel, 0..255, in that order.
        pad_value: 0..255, around the picture.
        centred: the picture is in the middle rather than in the top left corner.
        rounds: how the resized width and height become whole pixels.
    """

    color: Literal["RGB", "BGR"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_value: int = 114
    centred: bool = False
    rounds: Callable[[float], int] = int

    def place(self, image_hw: tuple[int, int], input_hw: tuple[int, int]) -> Placement:
        ratio = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
        h, w = (max(self.rounds(side * ratio), 1) for side in image_hw)
        if not self.centred:
            return Placement(image_hw, (h, w), 0, 0)
        # An odd pixel of padding goes to the right and below.
        return Placement(image_hw, (h, w), (input_hw[1] - w) // 2, (input_hw[0] - h) // 2)

    def fill(self, bgr: Image, input_hw: tuple[int, int]) -> tuple[Float, Placement]:
        """The network's input (1, 3, h, w) float32, and where the picture lies in it."""
        at = self.place((bgr.shape[0], bgr.shape[1]), input_hw)
        h, w = at.resized_hw
        canvas = np.full((*input_hw, 3), self.pad_value, dtype=np.uint8)
        canvas[at.top:at.top + h, at.left:at.left + w] = cv2.resize(bgr, (w, h), interpolation=cv2.INTER_LINEAR)
        spec = InputSpec(input_hw, self.color, self.mean, self.std).for_bgr_images()
        return normalise(canvas, spec)[None], at


def input_size(free_hw: tuple[int | None, int | None], image_hw: tuple[int, int]) -> tuple[int, int]:
    """The input's size for an image: what the network fixes, else the image's shape with its longer side at 640."""
    ratio = FREE_LONGEST / max(image_hw)
    h, w = (fixed or max(ceil(round(side * ratio) / FREE_MULTIPLE), 1) * FREE_MULTIPLE
            for fixed, side in zip(free_hw, image_hw, strict=True))
    return h, w
