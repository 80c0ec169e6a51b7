"""The cropping kernel gives the inputs that the contract's preprocessing gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekp.preprocess import InputSpec, preprocess
from edgekp.sample import Float, Image
from tests.deploy.cuda.emulated import Emulator

BOXES = np.array([[30.0, 10, 50, 70], [-20, -10, 60, 90], [100, 60, 80, 60], [40, 30, 6, 5], [500, 500, 20, 20]])


def picture(rng: np.random.Generator) -> Image:
    """(90, 130, 3) waves and a little noise."""
    y, x = np.mgrid[0:90, 0:130]
    waves = np.stack([np.sin(x / a) * np.cos(y / b) for a, b in ((9, 17), (15, 8), (21, 12))], -1)
    return np.clip(128 + 90 * waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def by_the_contract(image: Image, spec: InputSpec) -> tuple[Float, Float]:
    """Inputs and input-to-image affines of all boxes."""
    inputs, affines = zip(*(preprocess(image, box, spec) for box in BOXES), strict=True)
    return np.stack(inputs), np.stack(affines)


@pytest.mark.parametrize("changes", [{}, {"color": "BGR"}, {"pad_value": 114}, {"align": "corners"},
                                     {"mean": (127.5, 120.0, 110.0), "std": (127.5, 60.0, 70.0)}], ids=str)
def test_inputs_are_those_of_the_contract(gpu: Emulator, changes: dict[str, Any], rng: np.random.Generator) -> None:
    spec, image = InputSpec((48, 36), **changes), picture(rng)
    expected, affines = by_the_contract(image, spec)
    levels = np.abs(gpu.crop(image, affines, spec) - expected) * np.reshape(spec.std, (3, 1, 1))
    # OpenCV's warp reads positions to 1/32 of a pixel: 1/64 x the steepest step between neighbours, and the rounding.
    steepest = max(np.abs(np.diff(image.astype(int), axis=axis)).max() for axis in (0, 1))
    assert levels.max() <= 2 * max(steepest, 128) / 64 + 1
    assert levels.mean() < 0.3


def test_nearest_takes_whole_pixels(gpu: Emulator, rng: np.random.Generator) -> None:
    spec, image = InputSpec((48, 36), resize="nearest", mean=(0, 0, 0), std=(1, 1, 1)), picture(rng)
    _, affines = by_the_contract(image, spec)
    taken = gpu.crop(image, affines, spec)
    colors = {tuple(pixel) for pixel in image.reshape(-1, 3)} | {(0, 0, 0)}
    assert {tuple(pixel) for pixel in taken.transpose(0, 2, 3, 1).reshape(-1, 3)} <= colors


def test_a_crop_of_a_picture_as_it_is_changes_nothing(gpu: Emulator, rng: np.random.Generator) -> None:
    image = picture(rng)
    spec = InputSpec((90, 130), mean=(0, 0, 0), std=(1, 1, 1))
    whole = gpu.crop(image, np.eye(2, 3)[None], spec)
    np.testing.assert_array_equal(whole[0], image.transpose(2, 0, 1))


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e30])
def test_an_affine_to_nowhere_sees_padding(gpu: Emulator, broken: float, rng: np.random.Generator) -> None:
    spec = InputSpec((4, 4), mean=(0, 0, 0), std=(1, 1, 1), pad_value=7)
    assert (gpu.crop(picture(rng), np.full((1, 2, 3), broken), spec) == 7).all()
