"""How training pictures are changed at random, as a recipe says it. Knows no picture."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

from edgekp.errors import RecipeError


@dataclass(frozen=True)
class Augment:
    """Random changes to a training sample, image and keypoints together.

    Attributes:
        scale: smallest and largest size of the crop relative to the box, 1 is the box with its padding.
        rotate_deg: largest rotation to either side; ``rotate_p`` is how often.
        shift: largest movement of the crop, as a fraction of it.
        color: largest change of brightness and of each channel's gain, as a fraction.
        blur_p, gray_p: how often the crop is blurred or made grey.
        noise_p: how often noise of ``noise_sigma``, a fraction of 255, is added.
        cutout_p: how often the crop is hidden behind a rectangle.
        occluder_p: how often a keypoint is hidden behind a polygon with a texture.
        half_body_p: how often the upper or the lower body is shown alone, where enough of it is labelled.
        multi_scale: sizes of the input relative to ``input.input_hw``, one of which is drawn for each step; for codecs
            of maps, whose heads take inputs of any size.
    """

    flip_p: float = 0.5
    scale: tuple[float, float] = (0.75, 1.3)
    rotate_deg: float = 40.0
    rotate_p: float = 0.6
    shift: float = 0.05
    color: float = 0.3
    blur_p: float = 0.1
    gray_p: float = 0.1
    noise_p: float = 0.0
    noise_sigma: float = 0.01
    cutout_p: float = 0.2
    occluder_p: float = 0.0
    half_body_p: float = 0.0
    multi_scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name.endswith("_p") and not 0 <= value <= 1:
                raise RecipeError(f"augment.{entry.name}: {value}, expected a probability from 0 to 1")
        smallest, largest = self.scale
        if not 0 < smallest <= largest < inf:
            raise RecipeError(f"augment.scale: {list(self.scale)}, expected the smallest size of the crop, above 0, "
                              "and the largest; 1 is the box with its padding")
        for name, limit in (("rotate_deg", 180), ("shift", 1), ("color", 1), ("noise_sigma", 1)):
            if not 0 <= getattr(self, name) <= limit:
                raise RecipeError(f"augment.{name}: {getattr(self, name)}, expected 0 to {limit}")
        if not all(0.5 <= factor <= 2 for factor in self.multi_scale):
            raise RecipeError(f"augment.multi_scale: {list(self.multi_scale)}, expected factors from 0.5 to 2")
