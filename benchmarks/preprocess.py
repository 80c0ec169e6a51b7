"""From a picture to the network's input, against OpenCV's warp and the arithmetic that is usually written after it."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np

from benchmarks.timing import compare
from edgekp.preprocess import InputSpec, crop, crop_affine, normalise, preprocess
from edgekp.sample import Float, Image

SPEC = InputSpec((256, 192))
BOX_XYWH = np.array([200.0, 60.0, 180.0, 330.0])  # a person of two thirds of the picture's height
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])  # float64, as it is usually written; timed in float32, too
IMAGENET_STD = np.array([0.229, 0.224, 0.225])


def records() -> list[dict[str, Any]]:
    """Times of one 640 x 480 picture to one 256 x 192 input, one thread."""
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    affine = crop_affine(BOX_XYWH, SPEC.input_hw, SPEC.padding)
    cropped = crop(image, affine, SPEC)
    mean, std = IMAGENET_MEAN.astype(np.float32), IMAGENET_STD.astype(np.float32)
    both = partial(preprocess, image, BOX_XYWH, SPEC)
    return [
        compare("crop + normalise 640x480 -> 256x192", both, "warpAffine, then numpy in float32",
                lambda: _usual(_warped(image, affine), mean, std)),
        compare("crop + normalise 640x480 -> 256x192", both, "warpAffine, then numpy with float64 constants",
                lambda: _usual(_warped(image, affine), IMAGENET_MEAN, IMAGENET_STD)),
        compare("crop 640x480 -> 256x192", partial(crop, image, affine, SPEC), "warpAffine",
                partial(_warped, image, affine)),
        compare("normalise 256x192", partial(normalise, cropped, SPEC), "numpy in float32",
                partial(_usual, cropped, mean, std)),
    ]


def _warped(image: Image, affine: Float) -> Image:
    h, w = SPEC.input_hw
    return np.asarray(cv2.warpAffine(image, affine, (w, h), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def _usual(cropped: Image, mean: Float, std: Float) -> Float:
    """(3, h, w) contiguous, as a runtime wants it."""
    return np.ascontiguousarray(((cropped.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))
