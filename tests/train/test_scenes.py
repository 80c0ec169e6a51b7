"""Whole images as training samples: everything moves together, and what nobody labelled teaches nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgekp.errors import DataError
from edgekp.preprocess import frame_xywh, read_image, transform
from edgekp.recipe_augment import Augment
from edgekp.sample import Float, Scene
from edgekp.skeletons import COCO17, OPENPOSE18
from tests import tiny, tiny_scenes
from tests.tiny_scenes import INPUT_HW, unlabelled
from train.dataset import Batch, Pool, StepSampler
from train.loader import training_batches
from train.losses import loss_named
from train.scenes import SceneDataset, SceneViews

CONTRACT = tiny_scenes.contract()
MIRRORED = replace(tiny.STILL, flip_p=1.0)
WILD = Augment(scale=(0.6, 1.2), shift=0.2, rotate_deg=45, rotate_p=1.0, noise_p=0.5, cutout_p=0.5, occluder_p=0.5)
BARE = {"color": 0.0, "blur_p": 0.0, "gray_p": 0.0, "noise_p": 0.0, "cutout_p": 0.0, "occluder_p": 0.0}
CELL_PX = INPUT_HW[1] / tiny_scenes.IMAGE_HW[1]  # input pixels of an image pixel: the whole image fills the input


def dataset(scenes: tuple[Scene, ...], augment: Augment | None = None, seed: int = 0) -> SceneDataset:
    return SceneDataset(scenes, CONTRACT, augment, seed)


def batch_of(data: SceneDataset, *rows: int) -> Batch:
    views = data.collate([data[0, row, 0] for row in rows])
    assert isinstance(views, SceneViews)
    return data.batch(views)


def cell_in_image(data: SceneDataset) -> Float:
    """(h, w, 2) image pixels in the middle of each cell of a view without augmentation."""
    h, w = CONTRACT.codec.grid.map_hw
    stride = CONTRACT.codec.stride
    cells = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1)
    return (cells * stride + stride / 2) / CELL_PX - 0.5


def test_without_augmentation_the_keypoints_lie_where_the_whole_image_has_them(tmp_path: Path) -> None:
    scenes = tiny_scenes.scenes(tmp_path, [2])
    view = dataset(scenes).view(0, 0, INPUT_HW)
    expected = np.stack([person.keypoints_xy for person in scenes[0].people])
    np.testing.assert_allclose(view.keypoints_xy, (expected + 0.5) * CELL_PX - 0.5, atol=1e-9)
    assert view.pixels.shape == (*INPUT_HW, 3)
    assert view.known.all()


@pytest.mark.parametrize(("augment", "names"), [(MIRRORED, ["right"]), (WILD, ["left", "right"])])
def test_pixels_and_keypoints_move_together(tmp_path: Path, augment: Augment, names: list[str]) -> None:
    """A dot on each keypoint of a black picture is found where the view says that the keypoint is."""
    (scene,) = tiny_scenes.scenes(tmp_path, [2])
    picture = np.zeros((*tiny_scenes.IMAGE_HW, 3), np.uint8)
    knees = scene.people[0].keypoints_xy[COCO17.keypoints.index("left_knee")].round()
    picture[int(knees[1]) - 2:int(knees[1]) + 3, int(knees[0]) - 2:int(knees[0]) + 3] = 255
    cv2.imwrite(scene.image.path, picture)
    data = dataset((scene,), replace(augment, **BARE))
    seen = 0
    for epoch in range(8):
        view = data.view(epoch, 0, INPUT_HW)
        y, x = np.nonzero(view.pixels[..., 0] > 100)
        if len(x) >= 9:  # else it is out of sight
            knees = view.keypoints_xy[0, [COCO17.keypoints.index(f"{side}_knee") for side in names]]
            assert np.linalg.norm(knees - (x.mean(), y.mean()), axis=-1).min() < 1.5  # rounding, twice
            seen += 1
    assert seen >= 4


def test_a_mirrored_scene_has_the_maps_of_the_mirrored_people(tmp_path: Path) -> None:
    scenes = tiny_scenes.scenes(tmp_path, [3])
    plain, mirrored = (batch_of(dataset(scenes, augment), 0) for augment in (tiny.STILL, MIRRORED))
    order = OPENPOSE18.flip_order.tolist()
    heatmaps, pafs = (target.numpy() for target in plain.targets)
    expected = heatmaps[:, [*order, 18], :, ::-1]
    np.testing.assert_allclose(mirrored.targets[0].numpy(), expected, atol=1e-5)
    limbs = [OPENPOSE18.limbs.index((order[a], order[b])) for a, b in OPENPOSE18.limbs]
    h, w = pafs.shape[2:]
    fields = pafs.reshape(1, -1, 2, h, w)[:, limbs, :, :, ::-1] * np.array([-1, 1])[:, None, None]
    np.testing.assert_allclose(mirrored.targets[1].numpy(), fields.reshape(pafs.shape), atol=1e-5)
    torch.testing.assert_close(mirrored.inputs, plain.inputs.flip(-1), atol=0.05, rtol=0)  # a grey level or two


def test_an_epoch_and_an_index_always_give_the_same_view(tmp_path: Path) -> None:
    scenes = tiny_scenes.scenes(tmp_path, [1, 2])
    first, again, later, other = (dataset(scenes, WILD, seed).view(epoch, 1, INPUT_HW)
                                  for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0)))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.keypoints_xy, again.keypoints_xy)
    assert not np.array_equal(first.pixels, later.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def pool_of(scenes: tuple[Scene, ...], per_epoch: int = 0) -> Pool:
    return Pool(tuple(person for scene in scenes for person in scene.people), per_epoch, scenes)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_steps_of_a_run_are_the_same_wherever_it_begins_and_whoever_makes_them(tmp_path: Path,
                                                                                  workers: int) -> None:
    pools = [pool_of(tiny_scenes.scenes(tmp_path, [1, 3, 2, 1]))]
    whole = list(training_batches(pools, CONTRACT, WILD, StepSampler(pools, 2, 2, seed=3), 0))
    tail = list(training_batches(pools, CONTRACT, WILD, StepSampler(pools, 2, 2, seed=3, first_step=1), workers))
    assert (len(whole), len(tail)) == (4, 3)  # images are counted, not people
    for one, other in zip(whole[1:], tail, strict=True):
        for mine, theirs in zip((one.inputs, *one.targets, one.weight), (other.inputs, *other.targets, other.weight),
                                strict=True):
            assert torch.equal(mine, theirs)


def test_scenes_of_several_sizes_of_crowd_fit_into_a_batch(tmp_path: Path) -> None:
    data = dataset(tiny_scenes.scenes(tmp_path, [1, 3]))
    both, first, second = batch_of(data, 0, 1), batch_of(data, 0), batch_of(data, 1)
    for joint, one, other in zip(both.targets, first.targets, second.targets, strict=True):
        assert torch.equal(joint, torch.cat([one, other]))


def test_a_batch_of_another_input_size_has_maps_of_that_size(tmp_path: Path) -> None:
    data = dataset(tiny_scenes.scenes(tmp_path, [1]), replace(tiny.STILL, multi_scale=(0.75,)))
    batch = batch_of(data, 0)  # 0.75 of 96 x 128 in steps of 32 pixels
    assert tuple(batch.inputs.shape[2:]) == (64, 96)
    assert {tuple(array.shape[-2:]) for array in (*batch.targets, batch.weight)} == {(16, 24)}


BOX = (100.0, 20.0, 40.0, 60.0)


def in_box(xy: Float, box: tuple[float, ...] = BOX) -> Float:
    x, y, w, h = box
    return (xy[..., 0] >= x - 0.5) & (xy[..., 0] <= x + w - 0.5) & (xy[..., 1] >= y - 0.5) & (xy[..., 1] <= y + h - 0.5)


def test_the_mask_covers_an_unlabelled_person_and_nothing_else(tmp_path: Path) -> None:
    data = dataset(tiny_scenes.scenes(tmp_path, [1], others=[unlabelled(9, 1, BOX)]))
    np.testing.assert_array_equal(data.view(0, 0, INPUT_HW).known, ~in_box(cell_in_image(data)))


def test_a_labelled_person_in_a_crowd_is_taught(tmp_path: Path) -> None:
    whole = (0.0, 0.0, 160.0, 120.0)
    (scene,) = tiny_scenes.scenes(tmp_path, [1], others=[unlabelled(9, 1, whole, crowd=True)])
    data = dataset((scene,))
    person = tuple(scene.people[0].bbox_xywh)
    np.testing.assert_array_equal(data.view(0, 0, INPUT_HW).known, in_box(cell_in_image(data), person))


def test_where_labels_are_incomplete_only_their_people_are_taught(tmp_path: Path) -> None:
    (scene,) = tiny_scenes.scenes(tmp_path, [2])
    data = dataset((replace(scene, complete=False),))
    xy = cell_in_image(data)
    expected = np.any([in_box(xy, tuple(person.bbox_xywh)) for person in scene.people], axis=0)
    np.testing.assert_array_equal(data.view(0, 0, INPUT_HW).known, expected)


def test_somebody_with_three_keypoints_is_masked_and_with_four_taught(tmp_path: Path) -> None:
    (scene,) = tiny_scenes.scenes(tmp_path, [2])
    for labelled, taught in ((3, False), (4, True)):
        partly = replace(scene.people[0], visibility=np.where(np.arange(17) < labelled, 2, 0))
        view = dataset((replace(scene, people=(partly, scene.people[1])),)).view(0, 0, INPUT_HW)
        assert (view.visibility[0] > 0).any() == taught
        inside = in_box(cell_in_image(dataset((scene,))), tuple(partly.bbox_xywh))
        assert view.known[inside].all() == view.known[inside].any() == taught


def test_the_mask_turns_with_the_picture(tmp_path: Path) -> None:
    """White under the box of somebody unlabelled: what is white is masked, from wherever one looks."""
    (scene,) = tiny_scenes.scenes(tmp_path, [1], others=[unlabelled(9, 1, BOX)])
    import cv2
    picture = np.zeros((*tiny_scenes.IMAGE_HW, 3), np.uint8)
    picture[20:80, 100:140] = 255
    cv2.imwrite(scene.image.path, picture)
    data = dataset((scene,), replace(WILD, **BARE))
    stride = CONTRACT.codec.stride
    for epoch in range(4):
        view = data.view(epoch, 0, INPUT_HW)
        h, w = view.known.shape
        light = view.pixels[..., 0].reshape(h, stride, w, stride).mean((1, 3))
        assert not view.known[light == 255].any()
        assert view.known[light == 0].all()


def test_the_gradient_is_zero_exactly_where_nobody_labelled(tmp_path: Path) -> None:
    scenes = tiny_scenes.scenes(tmp_path, [2], others=[unlabelled(9, 1, BOX)])
    batch = batch_of(dataset(scenes), 0)
    torch.manual_seed(0)
    outputs = tuple(torch.randn_like(target).requires_grad_() for target in batch.targets)
    loss_named("openpose", CONTRACT).of(outputs, batch.targets, batch.weight).sum().backward()
    for output in outputs:
        touched = (output.grad != 0).any(1)[0]
        assert torch.equal(touched, batch.weight[0] > 0)


def test_the_loss_is_the_squared_error_of_the_known_cells(tmp_path: Path) -> None:
    """Against a loop over channels, and divided by the number of known cells."""
    scenes = tiny_scenes.scenes(tmp_path, [2], others=[unlabelled(9, 1, BOX)])
    batch = batch_of(dataset(scenes), 0)
    torch.manual_seed(0)
    outputs = tuple(torch.randn_like(target) for target in batch.targets)
    found = loss_named("openpose", CONTRACT).of(outputs, batch.targets, batch.weight)
    total = 0.0
    for output, target in zip(outputs, batch.targets, strict=True):
        for channel in range(output.shape[1]):
            error = (output[0, channel] - target[0, channel])[batch.weight[0] > 0]
            total += float((error**2).sum())
    assert float(found.sum()) == pytest.approx(total, rel=1e-5)
    assert found.shape == batch.weight.shape


def test_an_image_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    scenes = tiny_scenes.scenes(tmp_path, [1, 1])
    Path(scenes[1].image.path).unlink()
    pools = [pool_of(scenes)]
    with pytest.raises(DataError, match=r"set-2\.png: cannot read the image"):
        list(training_batches(pools, CONTRACT, None, StepSampler(pools, 2, 1, 0), 0))


def test_the_affine_of_a_view_is_that_of_the_device(tmp_path: Path) -> None:
    """What training shows without augmentation is what ``prepare`` shows."""
    (scene,) = tiny_scenes.scenes(tmp_path, [1])
    image = read_image(scene.image.path)
    tensor, input_to_image = CONTRACT.prepare(image, frame_xywh(image))
    data = dataset((scene,))
    np.testing.assert_array_equal(batch_of(data, 0).inputs[0].numpy(), tensor)
    back_xy = transform(data.view(0, 0, INPUT_HW).keypoints_xy[0], input_to_image)
    np.testing.assert_allclose(back_xy, scene.people[0].keypoints_xy, atol=1e-9)
