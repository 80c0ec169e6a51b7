"""What stands in front of a crop. Keypoints behind it become hidden; they stay labelled, and the loss asks for them."""

from __future__ import annotations

import cv2
import numpy as np

from edgekp.recipe_augment import Augment
from edgekp.sample import Bool, Float, Image, Int


def hide(rng: np.random.Generator, pixels: Image, keypoints_xy: Float, visibility: Int,
         augment: Augment) -> tuple[Image, Int]:
    """An (h, w, 3) crop with a rectangle and an occluder in front of it, now and then, and the visibility (K,) left.

    Args:
        keypoints_xy: (K, 2) pixels of the crop.
    """
    if rng.random() < augment.cutout_p:
        pixels, covered = _cut_out(rng, pixels)
        visibility = _behind(covered, keypoints_xy, visibility)
    if rng.random() < augment.occluder_p:
        within = (visibility > 0) & _is_inside(keypoints_xy, *pixels.shape[:2])
        if within.any():
            pixels, covered = _put_in_front(rng, pixels, rng.choice(keypoints_xy[within]))
            visibility = _behind(covered, keypoints_xy, visibility)
    return pixels, visibility


def _cut_out(rng: np.random.Generator, pixels: Image) -> tuple[Image, Bool]:
    """Hide a rectangle of a tenth to four tenths of each side behind one colour; crop and (h, w) what is hidden."""
    h, w, _ = pixels.shape
    size = (rng.uniform(0.1, 0.4, 2) * (h, w)).astype(int)
    top, left = (int(rng.integers(0, side - length + 1)) for side, length in zip((h, w), size, strict=True))
    covered = np.zeros((h, w), np.bool_)
    covered[top:top + size[0], left:left + size[1]] = True
    pixels = pixels.copy()
    pixels[top:top + size[0], left:left + size[1]] = rng.integers(0, 256, 3)
    return pixels, covered


def _put_in_front(rng: np.random.Generator, pixels: Image, center_xy: Float) -> tuple[Image, Bool]:
    """Hide a point behind a polygon with a texture: another part of the crop, or blotches of colour."""
    h, w, _ = pixels.shape
    corners = int(rng.integers(4, 9))
    angles = (np.arange(corners) + rng.random(corners)) * 2 * np.pi / corners  # gaps below pi: the point is inside
    radii = rng.uniform(0.05, 0.15) * np.sqrt(h * w) * rng.uniform(0.5, 1.0, corners)
    outline_xy = center_xy + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    covered = cv2.fillPoly(np.zeros((h, w), np.uint8), [np.rint(outline_xy).astype(np.int32)], 1)
    texture = _elsewhere(rng, pixels) if rng.random() < 0.5 else _blotches(rng, h, w)
    return np.asarray(cv2.copyTo(texture, covered, pixels.copy()), dtype=np.uint8), covered > 0


def _elsewhere(rng: np.random.Generator, pixels: Image) -> Image:
    """The crop itself, moved by a quarter to three quarters of each side."""
    moved_by = (rng.uniform(0.25, 0.75, 2) * pixels.shape[:2]).astype(int)
    return np.roll(pixels, moved_by, axis=(0, 1))


def _blotches(rng: np.random.Generator, h: int, w: int) -> Image:
    """(h, w, 3) random colours that run into each other, from large to fine."""
    cells = int(rng.integers(2, 33))
    return np.asarray(cv2.resize(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8), (w, h)), dtype=np.uint8)


def _behind(covered: Bool, keypoints_xy: Float, visibility: Int) -> Int:
    """Visibility (K,) after something came in front of the pixels that ``covered`` (h, w) marks: 2 becomes 1 there."""
    hidden = _is_inside(keypoints_xy, *covered.shape)
    x, y = np.rint(keypoints_xy[hidden]).astype(int).T
    hidden[hidden] = covered[y, x]
    return np.where(hidden, np.minimum(visibility, 1), visibility)


def _is_inside(points_xy: Float, h: int, w: int) -> Bool:
    """(K,) True where the pixel nearest to a point exists."""
    nearest = np.rint(points_xy)
    return np.asarray(((nearest >= 0) & (nearest < (w, h))).all(-1))
