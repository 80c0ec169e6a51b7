"""Augmentation: image and keypoints move together, and the numbers of the recipe mean what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import RecipeError
from edgekp.preprocess import InputSpec
from edgekp.recipe_augment import Augment
from edgekp.recipe_file import load_recipe
from edgekp.sample import Bool, Float, Image, Instance, Int
from edgekp.skeletons import COCO17, SKELETONS
from tests.tiny import STILL, instance
from train.augment import add_noise, hide, input_hw_of_step, recolor
from train.augment.view import draw_view, half_body_box
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


def test_color_brightens_and_darkens(rng: np.random.Generator) -> None:
    image = np.full((*HW, 3), 100, np.uint8)
    means = np.array([recolor(rng, image, replace(STILL, color=0.3)).mean() for _ in range(100)])
    assert means.min() < 75
    assert means.max() > 125


def test_noise_is_normal_with_the_recipe_s_sigma(rng: np.random.Generator) -> None:
    gray = np.full((256, 192, 3), 128, np.uint8)
    noise = add_noise(rng, gray, replace(STILL, noise_p=1.0, noise_sigma=0.04)).astype(float) - 128
    sigma, n = 0.04 * 255, noise.size
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(n)
    assert noise.std() == pytest.approx(sigma, rel=0.02)  # 256 quantiles lose 1 % of the tails
    within = (np.abs(noise) < sigma).mean()
    assert within == pytest.approx(0.683, abs=0.03)  # whole grey levels move the border by half of one
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


def test_noise_stays_between_black_and_white(rng: np.random.Generator) -> None:
    for level, side in ((0, np.greater_equal), (255, np.less_equal)):
        noisy = add_noise(rng, np.full((*HW, 3), level, np.uint8), replace(STILL, noise_p=1.0))
        assert side(noisy, level).all()
        assert np.abs(noisy.astype(int) - level).max() < 10  # an overflow would jump from one end to the other


def hidden_by(rng: np.random.Generator, image: Image, augment: Augment, visibility: Int) -> tuple[Bool, Float, Int]:
    """(h, w) which pixels changed, (17, 2) keypoints all over the crop and beyond, and (17,) what is seen of them."""
    keypoints_xy = rng.uniform((-10, -10), (HW[1] + 10, HW[0] + 10), (17, 2))
    before = image.copy()
    found, seen = hide(rng, image, keypoints_xy, visibility, augment)
    np.testing.assert_array_equal(image, before)
    return (found != image).any(-1), keypoints_xy, seen


@pytest.mark.parametrize("augment", [replace(STILL, cutout_p=1.0), replace(STILL, occluder_p=1.0),
                                     replace(STILL, cutout_p=1.0, occluder_p=1.0)])
def test_what_is_covered_becomes_hidden_and_stays_labelled(rng: np.random.Generator, augment: Augment) -> None:
    covered_count = 0
    for _ in range(50):
        visibility = rng.integers(0, 3, 17)
        before = visibility.copy()
        changed, keypoints_xy, seen = hidden_by(rng, pixels(rng), augment, visibility)
        np.testing.assert_array_equal(visibility, before)
        x, y = np.rint(keypoints_xy).astype(int).T
        inside = (x >= 0) & (x < HW[1]) & (y >= 0) & (y < HW[0])
        covered = np.array([within and changed[row, column] for within, row, column in zip(inside, y, x, strict=True)])
        np.testing.assert_array_equal(seen, np.where(covered, np.minimum(visibility, 1), visibility))
        covered_count += int((covered & (visibility == 2)).sum())
    assert covered_count > 0


def test_an_occluder_covers_a_labelled_keypoint(rng: np.random.Generator) -> None:
    visibility = np.zeros(17, int)
    for _ in range(50):
        visibility[:] = 0
        visibility[rng.integers(17)] = 2
        keypoints_xy = rng.uniform((0, 0), (HW[1] - 1, HW[0] - 1), (17, 2))
        image = pixels(rng)
        found, seen = hide(rng, image, keypoints_xy, visibility, replace(STILL, occluder_p=1.0))
        assert seen.max() == 1  # the only one that could be seen
        share = (found != image).any(-1).mean()
        assert 0 < share < 0.08  # a radius of 0.15 of the side has an area of 0.07


def test_nothing_is_put_in_front_of_what_is_not_there(rng: np.random.Generator) -> None:
    image = pixels(rng)
    for visibility, xy in ((np.zeros(17, int), (30.0, 30.0)), (np.full(17, 2), (-2.0, 30.0))):  # close to the crop
        found, seen = hide(rng, image, np.full((17, 2), xy), visibility, replace(STILL, occluder_p=1.0))
        np.testing.assert_array_equal(found, image)
        np.testing.assert_array_equal(seen, visibility)


def test_occluders_are_parts_of_the_picture_or_blotches_of_colour(rng: np.random.Generator) -> None:
    """In a picture of two levels, what was cut from it has these levels alone."""
    image = (rng.integers(0, 2, (*HW, 3)) * 255).astype(np.uint8)
    keypoints_xy = np.full((17, 2), 30.0)
    foreign = [((found > 0) & (found < 255)).any() for found, _ in
               (hide(rng, image, keypoints_xy, np.full(17, 2), replace(STILL, occluder_p=1.0)) for _ in range(200))]
    assert 70 < sum(foreign) < 130  # 100 +- 4 standard deviations of 7


def test_cutout_hides_one_rectangle_of_a_tenth_to_four_tenths_of_each_side(rng: np.random.Generator) -> None:
    for _ in range(50):
        changed, _, _ = hidden_by(rng, pixels(rng), replace(STILL, cutout_p=1.0), np.full(17, 2))
        for axis, side in ((1, HW[0]), (0, HW[1])):
            where = np.flatnonzero(changed.any(axis))
            assert 0.1 * side - 2 <= np.ptp(where) + 1 <= 0.4 * side
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].mean() > 0.95  # noise may match the colour


@pytest.mark.parametrize("name", ["cutout_p", "occluder_p", "noise_p", "gray_p", "blur_p"])
def test_the_recipe_says_how_often(rng: np.random.Generator, name: str) -> None:
    image, xy, visibility, augment = pixels(rng), np.full((17, 2), 30.0), np.full(17, 2), replace(STILL, **{name: 0.3})
    changed = sum(not np.array_equal(add_noise(rng, hide(rng, recolor(rng, image, augment), xy, visibility, augment)[0],
                                               augment), image) for _ in range(400))
    assert 83 < changed < 157  # 120 +- 4 standard deviations of 9.2


def test_augmentation_leaves_the_pixels_it_was_given_alone(rng: np.random.Generator) -> None:
    image = pixels(rng)
    before = image.copy()
    add_noise(rng, recolor(rng, image, Augment(blur_p=1.0, gray_p=1.0)), Augment(noise_p=1.0))
    add_noise(rng, image, Augment(noise_p=1.0))
    np.testing.assert_array_equal(image, before)


HALF = replace(STILL, half_body_p=1.0)
LOWER = np.arange(17) >= COCO17.keypoints.index("left_hip")


def standing(folder: Path) -> Instance:
    """Someone whose upper body is within x 40 to 60, y 30 to 70 and lower body within x 80 to 90, y 60 to 120."""
    low, high = np.where(LOWER[:, None], (80, 60), (40, 30)), np.where(LOWER[:, None], (90, 120), (60, 70))
    keypoints_xy = np.random.default_rng(0).uniform(low, high)
    keypoints_xy[[0, 11]], keypoints_xy[[1, 12]] = low[[0, 11]], high[[0, 11]]
    one = instance(folder, dot(np.array([70.0, 70.0])), keypoints_xy, BOX)
    one.visibility[:] = 2
    return one


def test_half_a_body_fills_two_thirds_of_the_crop(tmp_path: Path) -> None:
    """The box of its keypoints, times 1.5, in the aspect of the input; upper and lower body by a coin."""
    one, uppers = standing(tmp_path), 0
    for epoch in range(40):
        said = KeypointDataset((one,), CONTRACT, HALF, seed=0).sample(epoch, 0)[1]
        inside = ((said >= 0) & (said <= (HW[1] - 1, HW[0] - 1))).all(-1)
        half = ~LOWER if inside[~LOWER].all() else LOWER
        size = np.ptp(one.keypoints_xy[half], axis=0) + 1
        input_px_per_px = min(HW[1] / size[0], HW[0] / size[1]) / 1.5
        np.testing.assert_allclose(np.ptp(said[half], axis=0), (size - 1) * input_px_per_px)
        np.testing.assert_allclose((said[half].min(0) + said[half].max(0)) / 2, [(HW[1] - 1) / 2, (HW[0] - 1) / 2])
        uppers += int(half is not LOWER)
    assert 8 <= uppers <= 32  # 20 +- 4 standard deviations of 3.2


def test_the_recipe_says_how_often_half_a_body_is_shown(tmp_path: Path, rng: np.random.Generator) -> None:
    one, augment = standing(tmp_path), replace(STILL, half_body_p=0.3)
    halves = sum(half_body_box(rng, one, COCO17, augment) is not None for _ in range(400))
    assert 83 < halves < 157  # 120 +- 4 standard deviations of 9.2


@pytest.mark.parametrize("labelled", [  # of each, what half a body takes is missing
    np.arange(17) < 8, np.zeros(17, bool), np.arange(17) >= 9])
def test_less_than_half_a_body_is_shown_whole(tmp_path: Path, labelled: Bool) -> None:
    one = standing(tmp_path)
    one.visibility[~labelled] = 0
    whole = KeypointDataset((one,), CONTRACT, STILL, seed=0).sample(0, 0)
    for epoch in range(4):
        found = KeypointDataset((one,), CONTRACT, HALF, seed=0).sample(epoch, 0)
        np.testing.assert_array_equal(found[0], whole[0])
        np.testing.assert_array_equal(found[1], whole[1])


@pytest.mark.parametrize("labelled", [np.arange(17) < 9, np.arange(17) < 13])  # just enough; two keypoints below
def test_where_one_half_is_hardly_labelled_the_other_is_shown(tmp_path: Path, labelled: Bool) -> None:
    one = standing(tmp_path)
    one.visibility[~labelled] = 0
    for epoch in range(10):
        said = KeypointDataset((one,), CONTRACT, HALF, seed=0).sample(epoch, 0)[1][labelled & ~LOWER]
        np.testing.assert_allclose((said.min(0) + said.max(0)) / 2, [(HW[1] - 1) / 2, (HW[0] - 1) / 2])


def test_half_a_body_moves_image_and_keypoints_together(tmp_path: Path) -> None:
    """Dots of all keypoints lie within 30 by 40 pixels, so either half shows them all or nearly so."""
    seen, said = found_and_said(tmp_path, replace(HALF, rotate_deg=30.0, rotate_p=1.0), 0)
    margin = 12  # the whole dot, 4 standard deviations of 2 px at up to 1.6 times its size
    shown = ((said > margin) & (said < (HW[1] - margin, HW[0] - margin))).all(-1)
    assert shown.sum() > 5
    np.testing.assert_allclose(seen[shown], said[shown], atol=DOT_ATOL_PX)


def test_the_lower_body_begins_at_the_hips() -> None:
    for skeleton in (COCO17, SKELETONS["lsp14"]):
        lower = {name for name, is_lower in zip(skeleton.keypoints, skeleton.lower_body, strict=True) if is_lower}
        assert lower == {f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle")}
    for face in (SKELETONS["ibug68"], SKELETONS["wflw98"]):
        assert not face.lower_body.any()


def test_half_of_a_face_is_refused_and_does_nothing(tmp_path: Path, repository: Path) -> None:
    recipe = repository / "recipes/ibug68-face_mobilefacenet.toml"
    with pytest.raises(RecipeError, match=r"augment\.half_body_p: 0\.3, but skeleton 'ibug68' is no body"):
        load_recipe(recipe, ["augment.half_body_p=0.3"])
    face = instance(tmp_path, dot(np.array([70.0, 70.0])), np.random.default_rng(0).uniform(50, 90, (68, 2)), BOX)
    assert half_body_box(np.random.default_rng(0), face, SKELETONS["ibug68"], HALF) is None


def test_several_input_sizes_are_refused_for_heads_of_one_size(repository: Path) -> None:
    recipe = repository / "recipes/ibug68-face_mobilefacenet.toml"
    with pytest.raises(RecipeError, match=r"multi_scale: \[0\.75, 1\.0\], but heads that say \['coordinates'\]"):
        load_recipe(recipe, ["augment.multi_scale=[0.75, 1]"])
    pose = repository / "recipes/quickstart.toml"
    assert load_recipe(pose, ["augment.multi_scale=[0.75, 1]"]).augment.multi_scale == (0.75, 1.0)


def test_sizes_of_the_input_are_the_factors_to_the_nearest_32_pixels() -> None:
    factors = (0.5, 0.8, 1.0, 1.3, 2.0)
    steps = range(200)
    found = [input_hw_of_step(0, step, (256, 192), factors) for step in steps]
    assert set(found) == {(128, 96), (192, 160), (256, 192), (320, 256), (512, 384)}
    assert found == [input_hw_of_step(0, step, (256, 192), factors) for step in steps]
    assert found != [input_hw_of_step(1, step, (256, 192), factors) for step in steps]
    assert min(found.count(size) for size in set(found)) > 17  # 40 +- 4 standard deviations of 5.7
    assert input_hw_of_step(0, 3, (112, 80), ()) == (112, 80)
    for side in range(16, 300, 16):  # whatever divides the recipe's size divides the others
        (h, w), = {input_hw_of_step(0, 0, (side, 2 * side), (0.5,))}
        assert h > 0
        assert (h - side) % 32 == (w - 2 * side) % 32 == 0


@pytest.mark.parametrize(("name", "value", "message"), [
    ("flip_p", 1.1, "augment.flip_p: 1.1, expected a probability from 0 to 1"),
    ("half_body_p", -0.1, "augment.half_body_p: -0.1, expected a probability"),
    ("occluder_p", float("nan"), "augment.occluder_p: nan, expected a probability"),
    ("scale", (1.2, 0.8), r"augment.scale: \[1.2, 0.8\], expected the smallest size"),
    ("scale", (0.0, 1.0), r"augment.scale: \[0.0, 1.0\]"),
    ("scale", (0.5, float("inf")), "augment.scale"),
    ("rotate_deg", 181.0, "augment.rotate_deg: 181.0, expected 0 to 180"),
    ("shift", -0.1, "augment.shift: -0.1, expected 0 to 1"),
    ("color", 2.0, "augment.color: 2.0, expected 0 to 1"),
    ("noise_sigma", 2.55, "augment.noise_sigma: 2.55, expected 0 to 1"),  # grey levels in place of a fraction
    ("multi_scale", (1.0, 0.4), r"augment.multi_scale: \[1.0, 0.4\], expected factors from 0.5 to 2"),
])
def test_numbers_out_of_range_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(Augment(), **{name: value})  # type: ignore[arg-type]
