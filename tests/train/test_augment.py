"""Augmentation: image and keypoints move together, and the numbers of the recipe mean what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.recipe import Augment
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17
from tests.tiny import STILL, instance
from train.augment import draw_view, recolor
from train.dataset import KeypointDataset

HW = (96, 64)
PLAIN = InputSpec(HW, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CONTRACT = Contract(PLAIN, build_codec("regression", HW, {}), COCO17)
BOX = (40.0, 30.0, 60.0, 90.0)
DOT_ATOL_PX = 0.1  # OpenCV warps with positions rounded to 1/32 px, bytes are rounded too
EPOCHS = 6


def dot(xy: Float) -> Float:
    """(160, 140, 3) black picture with one soft dot."""
    y, x = np.mgrid[0:160, 0:140]
    blob = 255 * np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * 2.0**2))
    return np.repeat(blob.round()[..., None], 3, 2).astype(np.uint8)


def centroid(tensor: Float) -> Float:
    """Where the light of a (3, h, w) input is, as (x, y)."""
    light = tensor.sum(0)
    y, x = np.mgrid[0:light.shape[0], 0:light.shape[1]]
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def found_and_said(folder: Path, augment: Augment | None, epoch: int) -> tuple[Float, Float]:
    """(17, 2) where the dot of each keypoint is seen, and (17, 2) where the dataset says the keypoints are.

    Each dot has a picture of its own; seed, epoch and index, and with them the view, are the same for all.
    """
    keypoints_xy = np.random.default_rng(3).uniform((55, 55), (85, 95), (len(COCO17), 2))
    seen = []
    for index, xy in enumerate(keypoints_xy):
        one = instance(folder, dot(xy), keypoints_xy, BOX, name=str(index))
        tensor, said, _ = KeypointDataset((one,), CONTRACT, augment, seed=0).sample(epoch, 0)
        seen.append(centroid(tensor))
    return np.array(seen), said


def test_without_augmentation_dots_are_where_the_keypoints_are(tmp_path: Path) -> None:
    seen, said = found_and_said(tmp_path, None, 0)
    np.testing.assert_allclose(seen, said, atol=DOT_ATOL_PX)


def test_trap_a_flip_moves_the_keypoints_and_swaps_left_and_right(tmp_path: Path) -> None:
    straight, _ = found_and_said(tmp_path, STILL, 0)
    seen, said = found_and_said(tmp_path, replace(STILL, flip_p=1.0), 0)
    np.testing.assert_allclose(seen[:, 0], HW[1] - 1 - straight[:, 0], atol=DOT_ATOL_PX)  # the picture is mirrored
    np.testing.assert_allclose(seen[COCO17.flip_order], said, atol=DOT_ATOL_PX)  # the left eye's dot is a right eye now
    assert np.abs(seen - said).max() > 5  # the names matter: unswapped, the dots are elsewhere


def test_a_flip_swaps_the_visibility_too(tmp_path: Path) -> None:
    one = instance(tmp_path, dot(np.array([70.0, 70.0])), np.full((17, 2), 70.0), BOX)
    one.visibility[:] = np.arange(17) % 3
    _, _, visibility = KeypointDataset((one,), CONTRACT, replace(STILL, flip_p=1.0), seed=0).sample(0, 0)
    np.testing.assert_array_equal(visibility, (np.arange(17) % 3)[COCO17.flip_order])


@pytest.mark.parametrize("flip_p", [0.0, 1.0])
def test_trap_one_matrix_moves_image_and_keypoints(tmp_path: Path, flip_p: float) -> None:
    moving = replace(STILL, flip_p=flip_p, scale=(0.8, 1.2), rotate_deg=40.0, rotate_p=1.0, shift=0.08)
    views = []
    for epoch in range(EPOCHS):
        seen, said = found_and_said(tmp_path, moving, epoch)
        named = seen[COCO17.flip_order] if flip_p else seen
        np.testing.assert_allclose(named, said, atol=DOT_ATOL_PX)
        views.append(said)
    assert np.abs(np.diff(views, axis=0)).max(axis=(1, 2)).min() > 2  # each epoch shows another view


def test_trap_scale_is_the_size_itself_measured_on_a_rectangle(tmp_path: Path) -> None:
    """(0.8, 1.2) once meant 1.8 to 2.2 times."""
    picture = np.zeros((160, 140, 3), np.uint8)
    picture[60:90, 60:80] = 255
    spec = replace(PLAIN, padding=1.0)
    one = instance(tmp_path, picture, np.full((17, 2), 70.0), BOX)
    dataset = KeypointDataset((one,), replace(CONTRACT, input=spec), replace(STILL, scale=(0.8, 1.2)), seed=0)
    unscaled_area = 20 * 30 * (HW[0] / BOX[3]) ** 2  # the box of 60 x 90 fills the input of 64 x 96
    areas = np.array([dataset.sample(epoch, 0)[0][0].sum() / 255 for epoch in range(100)])
    scales = np.sqrt(unscaled_area / areas)  # a crop 1.2 times as large shows the rectangle at 1 / 1.2
    slack = 0.01  # bytes and 1/32 px along the rectangle's edge
    assert 0.8 - slack < scales.min() < 0.82
    assert 1.18 < scales.max() < 1.2 + slack


def test_rotation_and_shift_stay_within_the_recipe(rng: np.random.Generator) -> None:
    views = [draw_view(rng, Augment(rotate_deg=30, rotate_p=0.5, shift=0.1, flip_p=0.5)) for _ in range(400)]
    rotations = np.array([view.rotation_deg for view in views])
    shifts = np.array([view.shift for view in views])
    turned = rotations[rotations != 0]
    assert 160 < len(turned) < 240  # 200 +- 4 standard deviations of 10
    assert -30 <= turned.min() < -28 < 28 < turned.max() <= 30
    assert -0.1 <= shifts.min() < -0.09 < 0.09 < shifts.max() <= 0.1
    assert 160 < sum(view.mirrored for view in views) < 240


def pixels(rng: np.random.Generator) -> Image:
    return rng.integers(0, 256, (*HW, 3), dtype=np.uint8)


def test_recolor_without_strength_changes_no_pixel(rng: np.random.Generator) -> None:
    image = pixels(rng)
    np.testing.assert_array_equal(recolor(rng, image, STILL), image)


def test_gray_makes_the_channels_equal(rng: np.random.Generator) -> None:
    gray = recolor(rng, pixels(rng), replace(STILL, gray_p=1.0))
    assert (gray == gray[..., :1]).all()


def test_blur_removes_detail(rng: np.random.Generator) -> None:
    image = pixels(rng)
    assert recolor(rng, image, replace(STILL, blur_p=1.0)).std() < 0.8 * image.std()


def test_cutout_hides_one_rectangle_of_a_tenth_to_four_tenths_of_each_side(rng: np.random.Generator) -> None:
    image = pixels(rng)
    for _ in range(50):
        changed = (recolor(rng, image, replace(STILL, cutout_p=1.0)) != image).any(-1)
        for axis, side in ((1, HW[0]), (0, HW[1])):
            where = np.flatnonzero(changed.any(axis))
            assert 0.1 * side - 2 <= np.ptp(where) + 1 <= 0.4 * side
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].mean() > 0.95  # noise may match the colour


def test_color_brightens_and_darkens(rng: np.random.Generator) -> None:
    image = np.full((*HW, 3), 100, np.uint8)
    means = np.array([recolor(rng, image, replace(STILL, color=0.3)).mean() for _ in range(100)])
    assert means.min() < 75
    assert means.max() > 125


def test_augmentation_leaves_the_pixels_it_was_given_alone(rng: np.random.Generator) -> None:
    image = pixels(rng)
    before = image.copy()
    recolor(rng, image, Augment(blur_p=1.0, gray_p=1.0, cutout_p=1.0))
    np.testing.assert_array_equal(image, before)
