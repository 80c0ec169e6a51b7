"""Batches: what visibility means, and an order that depends on nothing but seed and step."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgekp.codecs import CODECS
from edgekp.errors import DataError
from edgekp.preprocess import ALIGNMENTS, Align, read_image, transform
from edgekp.recipe import Drawn, LabelSet
from edgekp.recipe_augment import Augment
from edgekp.sample import Instance
from edgekp.skeletons import COCO17
from tests import tiny
from train.dataset import (
    Batch,
    Crops,
    KeypointDataset,
    Pool,
    SampleKey,
    StepSampler,
    input_digests,
    read_pools,
)
from train.loader import training_batches

Keys = list[list[SampleKey]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    return tiny.instances(tmp_path_factory.mktemp("people"), 21)


def one_batch(instance: Instance, codec: str) -> Batch:
    dataset = KeypointDataset((instance,), tiny.recipe(codec=codec).contract(), None, seed=0)
    crops = dataset.collate([dataset[0, 0, 0]])
    assert isinstance(crops, Crops)
    return dataset.batch(crops)


@pytest.mark.parametrize("codec", CODECS)
def test_trap_only_unlabelled_keypoints_weigh_nothing(people: tuple[Instance, ...], codec: str) -> None:
    visibility = np.arange(len(COCO17)) % 3
    batch = one_batch(replace(people[0], visibility=visibility), codec)
    np.testing.assert_array_equal(batch.weight.numpy()[0], (visibility > 0).astype(np.float32))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("xy", [(0.0, 30.0), (40.0, 0.0), (0.0, 0.0)])
def test_trap_a_labelled_keypoint_with_x_or_y_of_zero_is_not_missing(
        people: tuple[Instance, ...], codec: str, xy: tuple[float, float]) -> None:
    keypoints_xy = people[0].keypoints_xy.copy()
    keypoints_xy[4] = xy
    batch = one_batch(replace(people[0], keypoints_xy=keypoints_xy, visibility=np.full(17, 2)), codec)
    assert batch.weight.numpy().all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("augment", [None, tiny.STILL])
def test_trap_target_weights_do_not_alias_the_visibility(people: tuple[Instance, ...], codec: str,
                                                         augment: Augment | None) -> None:
    before = people[0].visibility.copy()
    dataset = KeypointDataset(people[:1], tiny.recipe(codec=codec).contract(), augment, seed=0)
    crop = dataset[0, 0, 0]
    batch = dataset.batch(dataset.collate([crop]))
    batch.weight.zero_()
    batch.inputs.zero_()
    for target in batch.targets:
        target.zero_()
    np.testing.assert_array_equal(crop[2], before)
    np.testing.assert_array_equal(people[0].visibility, before)


def test_the_same_key_always_gives_the_same_view_and_another_epoch_another(people: tuple[Instance, ...]) -> None:
    dataset = KeypointDataset(people, tiny.recipe().contract(), Augment(), seed=0)
    again = KeypointDataset(people, tiny.recipe().contract(), Augment(), seed=0)
    again.sample(5, 3)
    for part, same in zip(dataset.sample(2, 4), again.sample(2, 4), strict=True):
        np.testing.assert_array_equal(part, same)
    assert not np.array_equal(dataset.sample(2, 4)[1], dataset.sample(3, 4)[1])
    other_seed = KeypointDataset(people, dataset.contract, Augment(), seed=1)
    assert not np.array_equal(dataset.sample(2, 4)[1], other_seed.sample(2, 4)[1])


@pytest.mark.parametrize("name", [name for name in vars(Augment()) if name.endswith("_p") and name != "rotate_p"])
def test_each_augmentation_of_the_recipe_reaches_the_sample(people: tuple[Instance, ...], name: str) -> None:
    everyone = tuple(replace(person, visibility=np.full(17, 2)) for person in people)
    contract, changed = tiny.recipe((96, 96)).contract(), replace(tiny.STILL, **{name: 1.0})
    plain, other = (KeypointDataset(everyone, contract, augment, seed=0) for augment in (tiny.STILL, changed))
    assert not np.array_equal(plain.sample(0, 1)[0], other.sample(0, 1)[0])
    hidden = [bool((other.sample(0, index)[2] == 1).any()) for index in range(8)]
    assert any(hidden) == (name in ("cutout_p", "occluder_p"))


def test_every_instance_comes_once_an_epoch_in_another_order_each_time(people: tuple[Instance, ...]) -> None:
    keys = list(StepSampler([Pool(people[:9]), Pool(people[9:])], batch=7, epochs=3, seed=0))
    epochs = [list(chain.from_iterable(keys[3 * epoch:3 * epoch + 3])) for epoch in range(3)]
    for epoch, drawn in enumerate(epochs):
        assert {key[0] for key in drawn} == {epoch}
        assert sorted(index for _, index, _ in drawn) == list(range(21))
    orders = {tuple(index for _, index, _ in drawn) for drawn in epochs}
    assert len(orders) == 3
    assert tuple(range(21)) not in orders


@pytest.mark.parametrize("first_step", [0, 1, 2, 3, 4, 7, 8, 9])
def test_a_sampler_that_starts_later_names_the_tail_of_the_same_sequence(
        people: tuple[Instance, ...], first_step: int) -> None:
    pools = [Pool(people[:8]), Pool(people[8:], per_epoch=4)]
    whole = list(StepSampler(pools, batch=4, epochs=3, seed=5))
    tail = StepSampler(pools, batch=4, epochs=3, seed=5, first_step=first_step)
    assert list(tail) == whole[first_step:]
    assert len(tail) == len(whole) - first_step


def test_weak_sets_give_the_number_asked_for_and_others_each_epoch(people: tuple[Instance, ...]) -> None:
    keys: Keys = list(StepSampler([Pool(people[:8]), Pool(people[8:], per_epoch=4)], batch=12, epochs=6, seed=0))
    assert len(keys) == 6
    strong = [sorted(index for _, index, _ in batch if index < 8) for batch in keys]
    weak = [sorted(index for _, index, _ in batch if index >= 8) for batch in keys]
    assert strong == [list(range(8))] * 6
    assert all(len(set(drawn)) == 4 for drawn in weak)
    assert len({tuple(drawn) for drawn in weak}) > 3  # 715 ways to draw 4 of 13
    assert set(chain.from_iterable(weak)) <= set(range(8, 21))


def test_a_weak_set_smaller_than_its_share_gives_all_it_has_and_no_step_is_short(
        people: tuple[Instance, ...]) -> None:
    sampler = StepSampler([Pool(people[:8]), Pool(people[8:12], per_epoch=400)], batch=4, epochs=2, seed=0)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 6
    assert all(len(batch) == 4 for batch in keys)


ALL_AT_ONCE = Augment(rotate_p=1.0, blur_p=0.5, gray_p=0.5, noise_p=0.5, cutout_p=0.5, occluder_p=0.5, half_body_p=0.5,
                      multi_scale=(0.5, 1.0, 1.5))


@pytest.mark.parametrize("augment", [Augment(), ALL_AT_ONCE])
@pytest.mark.parametrize("first_step", [0, 3])
def test_batches_do_not_depend_on_the_number_of_workers(people: tuple[Instance, ...], first_step: int,
                                                        augment: Augment) -> None:
    contract = tiny.recipe((64, 64)).contract()
    cv2.setNumThreads(4)  # as in a process that has drawn or validated before
    cv2.GaussianBlur(np.zeros((1000, 1000), np.uint8), (0, 0), 2.0)
    found = []
    for workers in (0, 2):
        sampler = StepSampler([Pool(people)], batch=5, epochs=2, seed=0, first_step=first_step)
        found.append(list(training_batches([Pool(people)], contract, augment, sampler, workers)))
    assert len(found[0]) == len(found[1]) == 8 - first_step
    for alone, helped in zip(*found, strict=True):
        assert torch.equal(alone.inputs, helped.inputs)
        assert torch.equal(alone.weight, helped.weight)
        assert all(torch.equal(a, b) for a, b in zip(alone.targets, helped.targets, strict=True))


def test_a_run_that_goes_on_later_sees_the_same_sizes_of_input(people: tuple[Instance, ...]) -> None:
    pools, contract = [Pool(people)], tiny.recipe((64, 64)).contract()
    whole, tail = (list(training_batches(pools, contract, ALL_AT_ONCE, StepSampler(pools, 5, 3, 0, first_step), 0))
                   for first_step in (0, 5))
    assert {batch.inputs.shape for batch in whole} == {(5, 3, side, side) for side in (32, 64, 96)}
    for batch, again in zip(whole[5:], tail, strict=True):
        assert torch.equal(batch.inputs, again.inputs)


@pytest.mark.parametrize("codec", [name for name in CODECS if name not in ("regression", "simcc")])
def test_targets_have_the_size_of_the_step_and_tell_where_its_keypoints_are(
        people: tuple[Instance, ...], codec: str) -> None:
    contract = tiny.recipe((64, 128), codec=codec).contract()
    dataset = KeypointDataset(people, contract, replace(tiny.STILL, multi_scale=(1.5,)), seed=0)
    crops = dataset.collate([dataset[0, index, 0] for index in range(4)])
    assert isinstance(crops, Crops)
    batch = dataset.batch(crops)
    assert batch.inputs.shape == (4, 3, 96, 192)
    expected = replace(contract.codec, input_hw=(96, 192)).encode(crops.keypoints_xy, crops.visibility)
    for name, target in zip(contract.codec.outputs, batch.targets, strict=True):
        np.testing.assert_array_equal(target, expected.arrays[name])
    nominal = np.stack([dataset.sample(0, index)[1] for index in range(4)])
    np.testing.assert_allclose((crops.keypoints_xy + 0.5) / 1.5, nominal + 0.5)  # the same view, 1.5 times as large


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("augment", [None, tiny.STILL])
def test_training_and_inference_see_the_same_input(people: tuple[Instance, ...], align: Align,
                                                   augment: Augment | None) -> None:
    contract = tiny.recipe().contract()
    contract = replace(contract, input=replace(contract.input, align=align))
    dataset = KeypointDataset(people, contract, augment, seed=0)
    crops = dataset.collate([dataset[0, index, 0] for index in range(5)])
    assert isinstance(crops, Crops)
    batch = dataset.batch(crops)
    for index, person in enumerate(people[:5]):
        expected, crop_to_image = contract.prepare(read_image(person.image.path), person.bbox_xywh)
        np.testing.assert_array_equal(batch.inputs[index], expected)
        np.testing.assert_array_equal(dataset.sample(0, index)[0], expected)
        back = transform(crops.keypoints_xy[index], crop_to_image)
        np.testing.assert_allclose(back, person.keypoints_xy, atol=1e-9)


def test_workers_start_from_a_process_without_opencv_threads(people: tuple[Instance, ...]) -> None:
    """A worker forked beside them waits for them forever: seen in one run of three."""
    cv2.setNumThreads(4)
    sampler = StepSampler([Pool(people)], batch=5, epochs=1, seed=0)
    next(training_batches([Pool(people)], tiny.recipe().contract(), None, sampler, workers=2))
    assert cv2.getNumThreads() == 1


def test_fewer_instances_than_a_batch_are_refused(people: tuple[Instance, ...]) -> None:
    with pytest.raises(DataError, match=r"21 training samples are less than one batch of 32; lower train\.batch"):
        StepSampler([Pool(people)], batch=32, epochs=1, seed=0)


def test_missing_images_are_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_sets(tmp_path, train=24)
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    assert [len(pool.instances) for pool in read_pools(tiny.recipe(), "train")] == [24]
    (tmp_path / "train-2.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images are not there, such as .*train-2\.png") as refusal:
        read_pools(tiny.recipe(), "train")
    assert "\n" not in str(refusal.value)


def test_missing_labels_are_refused_with_the_hint_of_the_recipe(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    recipe = tiny.recipe()
    recipe = replace(recipe, data=replace(recipe.data, hint="Ask the author."))
    for read in (read_pools, input_digests):
        with pytest.raises(DataError, match=r"train\.json: not there; set EDGEKP_DATA.*Ask the author\."):
            read(recipe, "train")


def test_the_folder_of_the_images_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_sets(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "train.json").rename(tmp_path / "labels/train.json")
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    recipe = tiny.recipe()
    for images, message in ((".", ""), ("", "2 of 2 images are not there")):
        data = replace(recipe.data, train=(LabelSet("labels/train.json", images, weak=3),))
        if message:
            with pytest.raises(DataError, match=message):
                read_pools(replace(recipe, data=data), "train")
        else:
            assert read_pools(replace(recipe, data=data), "train")[0].per_epoch == 3


def test_drawn_data_that_was_not_drawn_yet_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tiny.recipe()
    with pytest.raises(Exception, match="no result there; run: make train"):
        read_pools(replace(recipe, data=replace(recipe.data, drawn=Drawn("people"))), "train")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_decode_is_one_line_with_its_path(tmp_path: Path, workers: int) -> None:
    people = tiny.instances(tmp_path, 9)
    (tmp_path / "set-2.png").write_bytes(b"not a picture")
    sampler = StepSampler([Pool(people)], batch=9, epochs=1, seed=0)
    with pytest.raises(DataError, match=r"set-2\.png: neither JPEG, PNG") as refusal:
        list(training_batches([Pool(people)], tiny.recipe().contract(), None, sampler, workers))
    assert "\n" not in str(refusal.value)
