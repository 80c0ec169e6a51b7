"""Where a crop looks: at the whole box or at half of the body, from how far, turned, moved, or in a mirror."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekp.preprocess import InputSpec, crop_affine, mirror_affine
from edgekp.recipe_augment import Augment
from edgekp.sample import Float, Instance, Int
from edgekp.skeletons import Skeleton

HALF_BODY_PADDING = 1.5  # around the keypoints of a half, in place of the recipe's around a box (HRNet)
HALF_BODY_KEYPOINTS = 3  # fewer than these are no half of a body


@dataclass(frozen=True)
class View:
    """Where a crop looks, relative to the padded box."""

    scale: float
    rotation_deg: float
    shift: tuple[float, float]
    mirrored: bool


def look(rng: np.random.Generator, instance: Instance, spec: InputSpec, skeleton: Skeleton,
         augment: Augment) -> tuple[Float, Int]:
    """A random view of an instance: the affine (2, 3) from image to input pixels, and the order (K,) of the keypoints.

    The order puts keypoints and visibility under their own names again where the view is mirrored.
    """
    half = half_body_box(rng, instance, skeleton, augment)
    bbox_xywh, padding = (instance.bbox_xywh, spec.padding) if half is None else (half, HALF_BODY_PADDING)
    view = draw_view(rng, augment)
    image_to_input = crop_affine(bbox_xywh, spec.input_hw, padding, align=spec.align, scale=view.scale,
                                 rotation_deg=view.rotation_deg, shift=view.shift)
    if view.mirrored:
        return mirror_affine(image_to_input, spec.input_hw[1]), skeleton.flip_order
    return image_to_input, np.arange(len(skeleton))


def draw_view(rng: np.random.Generator, augment: Augment) -> View:
    """A random view. ``scale`` is the size of the crop itself: (0.8, 1.2) means 0.8 to 1.2 times the padded box."""
    rotation = rng.uniform(-augment.rotate_deg, augment.rotate_deg) if rng.random() < augment.rotate_p else 0.0
    dx, dy = rng.uniform(-augment.shift, augment.shift, 2)
    return View(float(rng.uniform(*augment.scale)), float(rotation), (float(dx), float(dy)),
                bool(rng.random() < augment.flip_p))


def half_body_box(rng: np.random.Generator, instance: Instance, skeleton: Skeleton, augment: Augment) -> Float | None:
    """(4,) box around the labelled keypoints of the upper or the lower body, or None to show the whole person.

    Half a body (Wang et al., COCO keypoints challenge, 2018) is shown where more than half of the keypoints are
    labelled; HRNet asks for more than 8 of 16 or 17.
    """
    if augment.half_body_p == 0 or rng.random() >= augment.half_body_p:  # where it is off, it draws no number
        return None
    lower, labelled = skeleton.lower_body, instance.labelled
    if not lower.any() or 2 * labelled.sum() <= len(skeleton):
        return None
    halves = [half for half in (labelled & ~lower, labelled & lower) if half.sum() >= HALF_BODY_KEYPOINTS]
    if not halves:
        return None
    half_xy = instance.keypoints_xy[halves[rng.integers(len(halves))]]
    low_xy, high_xy = half_xy.min(0), half_xy.max(0)
    return np.concatenate([low_xy, high_xy - low_xy + 1])
