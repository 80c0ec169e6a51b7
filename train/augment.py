"""Random views of a training sample: where the crop looks, and what light it sees. Knows no file and no network."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgekp.recipe import Augment
from edgekp.sample import Image


@dataclass(frozen=True)
class View:
    """Where a crop looks, relative to the padded box."""

    scale: float
    rotation_deg: float
    shift: tuple[float, float]
    mirrored: bool


def draw_view(rng: np.random.Generator, augment: Augment) -> View:
    """A random view. ``scale`` is the size of the crop itself: (0.8, 1.2) means 0.8 to 1.2 times the padded box."""
    rotation = rng.uniform(-augment.rotate_deg, augment.rotate_deg) if rng.random() < augment.rotate_p else 0.0
    dx, dy = rng.uniform(-augment.shift, augment.shift, 2)
    return View(float(rng.uniform(*augment.scale)), float(rotation), (float(dx), float(dy)),
                bool(rng.random() < augment.flip_p))


def recolor(rng: np.random.Generator, pixels: Image, augment: Augment) -> Image:
    """Other light on an (h, w, 3) crop: brightness, gain per channel, grey, blur and a hidden rectangle."""
    gain = 1 + rng.uniform(-augment.color, augment.color) + rng.uniform(-augment.color, augment.color, 3) / 2
    offset = rng.uniform(-augment.color, augment.color) * 80
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    pixels = np.asarray(cv2.LUT(pixels, table.reshape(1, 256, 3)), dtype=np.uint8)
    if rng.random() < augment.gray_p:
        pixels = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)
    if rng.random() < augment.blur_p:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.5)), dtype=np.uint8)
    if rng.random() < augment.cutout_p:
        pixels = _cut_out(rng, pixels)
    return pixels


def _cut_out(rng: np.random.Generator, pixels: Image) -> Image:
    """Hide a rectangle of a tenth to four tenths of each side behind one colour."""
    h, w, _ = pixels.shape
    size = (rng.uniform(0.1, 0.4, 2) * (h, w)).astype(int)
    top, left = (int(rng.integers(0, side - length + 1)) for side, length in zip((h, w), size, strict=True))
    pixels = pixels.copy()
    pixels[top:top + size[0], left:left + size[1]] = rng.integers(0, 256, 3)
    return pixels
