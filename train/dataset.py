"""From annotated instances to batches of inputs and targets, in an order that depends on nothing but seed and step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from edgekp.atomic import sha256
from edgekp.coco import Labels, read_coco
from edgekp.contract import Contract
from edgekp.errors import DataError, EdgekpError
from edgekp.preprocess import crop, crop_affine, mirror_affine, normalise, read_image, transform
from edgekp.recipe import Augment, LabelSet, Recipe, locate
from edgekp.sample import Float, Instance, Int
from edgekp.skeletons import skeleton_named
from edgekp.stage import require_stage, say
from train.augment import draw_view, recolor

SampleKey = tuple[int, int]  # epoch, index of the instance
Item = tuple[Float, Float, Int]  # input (3, h, w), keypoints_xy (K, 2) input pixels, visibility (K,)


@dataclass(frozen=True)
class Batch:
    """N inputs (N, 3, h, w), their targets by output name, and the weight (N, K) of each keypoint."""

    inputs: Tensor
    targets: tuple[Tensor, ...]
    weight: Tensor


@dataclass(frozen=True)
class Pool:
    """Instances of one label set; ``per_epoch`` of them are drawn each epoch, all where it is 0."""

    instances: tuple[Instance, ...]
    per_epoch: int = 0

    @property
    def drawn(self) -> int:
        """How many instances an epoch sees; a set smaller than ``per_epoch`` gives all it has."""
        return min(self.per_epoch or len(self.instances), len(self.instances))


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
    pools = []
    for labels_path, images, entry in label_files(recipe, split):
        labels = read_coco(labels_path, skeleton_named(recipe.data.skeleton), images)
        if labels.skipped:
            say(f"data: {labels_path}: {len(labels.instances)} instances, {labels.skipped} left out "
                "(crowds, or no labelled keypoint)")
        _check_images(labels)
        pools.append(Pool(labels.instances, entry.weak))
    return pools


def input_digests(recipe: Recipe, split: str) -> dict[str, str]:
    """sha256 of each label file of a split, for a stage's key."""
    return {entry.labels: sha256(path) for path, _, entry in label_files(recipe, split)}


def _check_images(labels: Labels) -> None:
    """Refuse a label set before training starts, rather than an hour later, when an image file is not there."""
    needed = {instance.image.path for instance in labels.instances}
    missing = sorted(path for path in needed if not Path(path).is_file())
    if missing:
        raise DataError(f"{labels.path}: {len(missing)} of {len(needed)} images are not there, such as {missing[0]}; "
                        "check file_name, or name the folder as images in the recipe")


class KeypointDataset(Dataset[Item | EdgekpError]):
    """Instances as network inputs; with ``augment``, the same (epoch, index) always gives the same view."""

    def __init__(self, instances: tuple[Instance, ...], contract: Contract, augment: Augment | None, seed: int) -> None:
        self.instances = instances
        self.contract = contract
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, key: SampleKey) -> Item | EdgekpError:
        """The sample, or the error that it gives: a worker process would bury a raised one under its traceback."""
        try:
            return self.sample(*key)
        except EdgekpError as error:
            return error

    def sample(self, epoch: int, index: int) -> Item:
        """Input, keypoints and visibility of one view of an instance."""
        instance, spec, skeleton = self.instances[index], self.contract.input, self.contract.skeleton
        image = read_image(instance.image.path)
        visibility = instance.visibility
        if self.augment is None:
            image_to_input = crop_affine(instance.bbox_xywh, spec.input_hw, spec.padding)
            pixels = crop(image, image_to_input, spec)
            return normalise(pixels, spec), transform(instance.keypoints_xy, image_to_input), visibility
        rng = np.random.default_rng([self.seed, epoch, index])
        view = draw_view(rng, self.augment)
        image_to_input = crop_affine(instance.bbox_xywh, spec.input_hw, spec.padding, scale=view.scale,
                                     rotation_deg=view.rotation_deg, shift=view.shift)
        if view.mirrored:
            image_to_input = mirror_affine(image_to_input, spec.input_hw[1])
        keypoints_xy = transform(instance.keypoints_xy, image_to_input)
        if view.mirrored:
            keypoints_xy, visibility = keypoints_xy[skeleton.flip_order], visibility[skeleton.flip_order]
        pixels = recolor(rng, crop(image, image_to_input, spec), self.augment)
        return normalise(pixels, spec), keypoints_xy, visibility

    def collate(self, items: list[Item | EdgekpError]) -> Batch | EdgekpError:
        """Stack items and encode their targets in one vectorised call; the first error, if there is one."""
        sound = []
        for item in items:
            if isinstance(item, EdgekpError):
                return item
            sound.append(item)
        inputs, keypoints_xy, visibility = (np.stack(part) for part in zip(*sound, strict=True))
        target = self.contract.codec.encode(keypoints_xy, visibility)
        arrays = tuple(torch.from_numpy(target.arrays[name]) for name in self.contract.codec.outputs)
        return Batch(torch.from_numpy(inputs), arrays, torch.from_numpy(target.weight))


class StepSampler(Sampler[list[SampleKey]]):
    """The keys of every batch from ``first_step`` on; step s is the same batch in every run with this seed."""

    def __init__(self, pools: list[Pool], batch: int, epochs: int, seed: int, first_step: int = 0) -> None:
        self.pools, self.batch, self.epochs, self.seed, self.first_step = pools, batch, epochs, seed, first_step
        size = sum(pool.drawn for pool in pools)
        self.steps_per_epoch = size // batch
        if self.steps_per_epoch == 0:
            raise DataError(f"{size} training instances are less than one batch of {batch}; lower train.batch")

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first_epoch, skipped = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = self._order(epoch)
            for step in range(skipped if epoch == first_epoch else 0, self.steps_per_epoch):
                yield [(epoch, int(index)) for index in order[step * self.batch:(step + 1) * self.batch]]

    def _order(self, epoch: int) -> Int:
        rng = np.random.default_rng([self.seed, epoch])
        chosen, offset = [], 0
        for pool in self.pools:
            chosen.append(offset + rng.permutation(len(pool.instances))[:pool.drawn])
            offset += len(pool.instances)
        return rng.permutation(np.concatenate(chosen))


def training_batches(pools: list[Pool], contract: Contract, augment: Augment | None, sampler: StepSampler,
                     workers: int) -> Iterator[Batch]:
    """Batches of every step that ``sampler`` names, made by ``workers`` processes beside the training."""
    cv2.setNumThreads(1)  # before the fork: OpenCV's threads do not survive it, and a worker would wait for them
    instances = tuple(instance for pool in pools for instance in pool.instances)
    dataset = KeypointDataset(instances, contract, augment, sampler.seed)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=dataset.collate,
                        worker_init_fn=_leave_ctrl_c_to_the_parent)
    for batch in loader:
        if isinstance(batch, EdgekpError):
            raise batch
        yield batch


def _leave_ctrl_c_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
