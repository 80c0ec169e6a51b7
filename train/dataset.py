"""From annotated instances to inputs and targets, in an order that depends on nothing but seed and step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from edgekp.coco import Labels, read_coco
from edgekp.coco_scenes import read_scenes
from edgekp.codecs import SCENE_CODECS
from edgekp.contract import VISIBILITY, Contract
from edgekp.data_digest import data_digest
from edgekp.data_folder import locate
from edgekp.errors import DataError, EdgekpError
from edgekp.preprocess import crop, crop_affine, normalise, read_image, transform
from edgekp.recipe import LabelSet, Recipe
from edgekp.recipe_augment import Augment
from edgekp.sample import Float, Image, Instance, Int, Scene
from edgekp.skeleton_file import skeleton_digest
from edgekp.skeletons import skeleton_named
from edgekp.stage import require_stage, say
from train.augment import add_noise, hide, input_hw_of_step, look, recolor
from train.world import World

SampleKey = tuple[int, int, int]  # epoch, index of the instance, number of the step in the run
Crop = tuple[Image, Float, Int]  # pixels (h, w, 3) uint8 RGB, keypoints_xy (K, 2) input pixels, visibility (K,)
Item = tuple[Float, Float, Int]  # the same with the input (3, h, w) in place of the pixels

V = TypeVar("V")
ViewT_co = TypeVar("ViewT_co", covariant=True)


@dataclass(frozen=True)
class Crops:
    """N crops as a worker process hands them over: bytes, a fifth of what inputs and targets would take.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB.
        keypoints_xy: (N, K, 2) input pixels.
        visibility: (N, K).
    """

    pixels: Tensor
    keypoints_xy: Float
    visibility: Int


@dataclass(frozen=True)
class Batch:
    """N inputs (N, 3, h, w), their targets by output name, and the weight (N, K) of each keypoint.

    The target of ``visibility`` is (N, K), 1 for visible keypoints and 0 for others.
    """

    inputs: Tensor
    targets: tuple[Tensor, ...]
    weight: Tensor


@dataclass(frozen=True)
class Pool:
    """Samples of one label set; ``per_epoch`` of them are drawn each epoch, all where it is 0.

    Attributes:
        scenes: the images of the instances, where these and not the instances are the samples.
    """

    instances: tuple[Instance, ...]
    per_epoch: int = 0
    scenes: tuple[Scene, ...] | None = None

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self.instances if self.scenes is None else self.scenes)

    @property
    def drawn(self) -> int:
        """How many samples an epoch sees; a set smaller than ``per_epoch`` gives all it has."""
        return min(self.per_epoch or self.size, self.size)


def label_files(recipe: Recipe, split: str) -> list[tuple[Path, Path | None, LabelSet]]:
    """Label file and image folder of each set of a split, drawn or the user's own."""
    if recipe.data.drawn:
        folder = require_stage(recipe.run_folder / "data", "make train")
        return [(folder / f"{split}.json", None, LabelSet(f"{split}.json"))]
    sets = recipe.data.train if split == "train" else recipe.data.val
    return [(locate(entry.labels, recipe.data.hint), locate(entry.images, recipe.data.hint) if entry.images else None,
             entry) for entry in sets]


def read_pools(recipe: Recipe, split: str) -> list[Pool]:
    """Every label set of a split; what was left out is said."""
    pools, of_scenes = [], recipe.codec.name in SCENE_CODECS
    for labels_path, images, entry in label_files(recipe, split):
        labels = read_coco(labels_path, skeleton_named(recipe.data.skeleton), images)
        if labels.skipped:
            say(f"data: {labels_path}: {len(labels.instances)} instances, {labels.skipped} left out "
                "(crowds, or no labelled keypoint)")
        _check_images(labels)
        pools.append(Pool(labels.instances, entry.weak, read_scenes(labels) if of_scenes else None))
    return pools


def input_digests(recipe: Recipe, split: str) -> dict[str, str]:
    """Digests of each label file of a split, its images, and the skeleton where it is a file, for a stage's key."""
    digests = skeleton_digest(recipe.data.skeleton)
    for path, images, entry in label_files(recipe, split):
        digests |= data_digest(path, images).inputs(entry.labels)
    return digests


def _check_images(labels: Labels) -> None:
    """Refuse a label set before training starts, rather than an hour later, when an image file is not there."""
    needed = {instance.image.path for instance in labels.instances}
    missing = sorted(path for path in needed if not Path(path).is_file())
    if missing:
        raise DataError(f"{labels.path}: {len(missing)} of {len(needed)} images are not there, such as {missing[0]}; "
                        "check file_name, or name the folder as images in the recipe")


class Views(Protocol[ViewT_co]):
    """A data set whose samples are views, each a function of (epoch, index) and of the size of the input."""

    contract: Any
    augment: Augment | None
    seed: int

    def view(self, epoch: int, index: int, input_hw: tuple[int, int]) -> ViewT_co:
        """One look at a sample."""


def view_or_error(views: Views[ViewT_co], key: SampleKey) -> ViewT_co | EdgekpError:
    """The view, or the error that it gives: a worker process would bury a raised one under its traceback."""
    epoch, index, step = key
    factors = views.augment.multi_scale if views.augment else ()
    try:
        return views.view(epoch, index, input_hw_of_step(views.seed, step, views.contract.input.input_hw, factors))
    except EdgekpError as error:
        return error


class KeypointDataset(Dataset[Crop | EdgekpError]):
    """Instances as network inputs; with ``augment``, the same (epoch, index) always gives the same view.

    All samples of a step have one size, which depends on nothing but the seed and the step's number.

    Attributes:
        keypoint_weights: what each keypoint counts; by default all count the same.
    """

    def __init__(self, instances: tuple[Instance, ...], contract: Contract, augment: Augment | None, seed: int,
                 keypoint_weights: tuple[float, ...] = ()) -> None:
        self.instances = instances
        self.contract = contract
        self.augment = augment
        self.seed = seed
        self.keypoint_weights = keypoint_weights or (1.0,) * len(contract.skeleton)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, key: SampleKey) -> Crop | EdgekpError:
        return view_or_error(self, key)

    def sample(self, epoch: int, index: int) -> Item:
        """Input, keypoints and visibility of one view of an instance, in the contract's size."""
        pixels, keypoints_xy, visibility = self.view(epoch, index, self.contract.input.input_hw)
        return normalise(pixels, self.contract.input), keypoints_xy, visibility

    def view(self, epoch: int, index: int, input_hw: tuple[int, int]) -> Crop:
        """Pixels, keypoints and visibility of one view of an instance."""
        instance, spec = self.instances[index], replace(self.contract.input, input_hw=input_hw)
        image = read_image(instance.image.path)
        if self.augment is None:
            image_to_input = crop_affine(instance.bbox_xywh, input_hw, spec.padding, align=spec.align)
            keypoints_xy = transform(instance.keypoints_xy, image_to_input)
            return crop(image, image_to_input, spec), keypoints_xy, instance.visibility
        rng = np.random.default_rng([self.seed, epoch, index])
        image_to_input, order = look(rng, instance, spec, self.contract.skeleton, self.augment)
        keypoints_xy = transform(instance.keypoints_xy, image_to_input)[order]
        pixels = recolor(rng, crop(image, image_to_input, spec), self.augment)
        pixels, visibility = hide(rng, pixels, keypoints_xy, instance.visibility[order], self.augment)
        return add_noise(rng, pixels, self.augment), keypoints_xy, visibility

    def collate(self, crops: list[Crop | EdgekpError]) -> Crops | EdgekpError:
        """N crops of one size as one; the first error, if there is one."""
        sound = sound_or_error(crops)
        if isinstance(sound, EdgekpError):
            return sound
        pixels, keypoints_xy, visibility = (np.stack(part) for part in zip(*sound, strict=True))
        return Crops(torch.from_numpy(pixels), keypoints_xy, visibility)

    def batch(self, crops: Crops) -> Batch:
        """Crops as inputs and targets; all targets are encoded in one vectorised call."""
        count, h, w, _ = crops.pixels.shape
        inputs = np.empty((count, 3, h, w), np.float32)
        for pixels, row in zip(crops.pixels.numpy(), inputs, strict=True):
            normalise(pixels, self.contract.input, row)
        codec = replace(self.contract.codec, input_hw=(h, w))
        target = codec.encode(crops.keypoints_xy, crops.visibility)
        arrays = target.arrays | {VISIBILITY: (crops.visibility == 2).astype(np.float32)}
        targets = tuple(torch.from_numpy(arrays[name]) for name in self.contract.outputs)
        weight = target.weight * np.array(self.keypoint_weights, np.float32)
        return Batch(torch.from_numpy(inputs), targets, torch.from_numpy(weight))


def sound_or_error(views: list[V | EdgekpError]) -> list[V] | EdgekpError:
    """The views that worker processes hand over, or the first error among them."""
    sound = []
    for view_or_error in views:
        if isinstance(view_or_error, EdgekpError):
            return view_or_error
        sound.append(view_or_error)
    return sound


class StepSampler(Sampler[list[SampleKey]]):
    """The keys of every batch from ``first_step`` on; step s is the same batch in every run with this seed.

    Each process of ``world`` gets its share of the batch.
    """

    def __init__(self, pools: list[Pool], batch: int, epochs: int, seed: int, first_step: int = 0,
                 world: World | None = None) -> None:
        self.pools, self.batch, self.epochs, self.seed, self.first_step = pools, batch, epochs, seed, first_step
        self.world = world or World()
        size = sum(pool.drawn for pool in pools)
        self.steps_per_epoch = size // batch
        if self.steps_per_epoch == 0:
            raise DataError(f"{size} training samples are less than one batch of {batch}; lower train.batch")

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first_epoch, skipped = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = self._order(epoch)
            for step in range(skipped if epoch == first_epoch else 0, self.steps_per_epoch):
                number = epoch * self.steps_per_epoch + step
                rows = order[step * self.batch:(step + 1) * self.batch].tolist()
                yield [(epoch, index, number) for index in self.world.share(rows)]

    def _order(self, epoch: int) -> Int:
        rng = np.random.default_rng([self.seed, epoch])
        chosen, offset = [], 0
        for pool in self.pools:
            chosen.append(offset + rng.permutation(pool.size)[:pool.drawn])
            offset += pool.size
        return rng.permutation(np.concatenate(chosen))
