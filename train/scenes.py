"""Whole images as inputs and targets, with a mask over what nobody labelled. Knows no order of the samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edgekp.codecs.openpose_decode import FEWEST_KEYPOINTS
from edgekp.contract import SceneContract
from edgekp.errors import EdgekpError
from edgekp.preprocess import crop, crop_affine, frame_xywh, invert, mirror_affine, normalise, read_image, transform
from edgekp.recipe_augment import Augment
from edgekp.sample import Bool, Float, Image, Int, Scene
from train.augment import add_noise, draw_view, hide, recolor
from train.dataset import Batch, SampleKey, sound_or_error, view_or_error


@dataclass(frozen=True)
class SceneView:
    """One look at a scene.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
        keypoints_xy: (P, 17, 2) input pixels.
        visibility: (P, 17).
        known: (h / stride, w / stride) False in cells whose people nobody labelled.
    """

    pixels: Image
    keypoints_xy: Float
    visibility: Int
    known: Bool


@dataclass(frozen=True)
class SceneViews:
    """N of them as a worker process hands them over; people are filled up with some of visibility 0."""

    pixels: Tensor
    keypoints_xy: Float
    visibility: Int
    known: Tensor


class SceneDataset(Dataset[SceneView | EdgekpError]):
    """Images as network inputs; with ``augment``, the same (epoch, index) always gives the same view.

    ``augment.scale`` is the size of what is seen relative to the whole image: 0.5 shows a quarter of it.
    """

    def __init__(self, scenes: tuple[Scene, ...], contract: SceneContract, augment: Augment | None, seed: int) -> None:
        self.scenes = scenes
        self.contract = contract
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: SampleKey) -> SceneView | EdgekpError:
        return view_or_error(self, key)

    def view(self, epoch: int, index: int, input_hw: tuple[int, int]) -> SceneView:
        """One look at a scene."""
        scene, spec = self.scenes[index], replace(self.contract.input, input_hw=input_hw)
        image = read_image(scene.image.path)
        keypoints_xy, visibility = _taught(scene)
        if self.augment is None:
            image_to_input = crop_affine(frame_xywh(image), input_hw, spec.padding, align=spec.align)
            return SceneView(crop(image, image_to_input, spec), transform(keypoints_xy, image_to_input), visibility,
                             self._known(scene, image_to_input, input_hw))
        rng = np.random.default_rng([self.seed, epoch, index])
        image_to_input, order = self._look(rng, image, input_hw, self.augment)
        keypoints_xy, visibility = transform(keypoints_xy, image_to_input)[:, order], visibility[:, order]
        pixels = recolor(rng, crop(image, image_to_input, spec), self.augment)
        pixels, seen = hide(rng, pixels, keypoints_xy.reshape(-1, 2), visibility.reshape(-1), self.augment)
        return SceneView(add_noise(rng, pixels, self.augment), keypoints_xy, seen.reshape(visibility.shape),
                         self._known(scene, image_to_input, input_hw))

    def collate(self, views: list[SceneView | EdgekpError]) -> SceneViews | EdgekpError:
        """N views of one size as one; the first error, if there is one."""
        sound = sound_or_error(views)
        if isinstance(sound, EdgekpError):
            return sound
        pixels, known = (np.stack([getattr(view, name) for view in sound]) for name in ("pixels", "known"))
        most = max(len(view.visibility) for view in sound)
        people = len(sound), most, len(self.contract.skeleton)
        keypoints_xy, visibility = np.zeros((*people, 2)), np.zeros(people, np.int64)
        for row, view in enumerate(sound):
            keypoints_xy[row, :len(view.visibility)] = view.keypoints_xy
            visibility[row, :len(view.visibility)] = view.visibility
        return SceneViews(torch.from_numpy(pixels), keypoints_xy, visibility, torch.from_numpy(known))

    def batch(self, views: SceneViews) -> Batch:
        """Views as inputs and targets; what is not known weighs nothing."""
        count, h, w, _ = views.pixels.shape
        inputs = np.empty((count, 3, h, w), np.float32)
        for pixels, row in zip(views.pixels.numpy(), inputs, strict=True):
            normalise(pixels, self.contract.input, row)
        target = self.contract.encode(views.keypoints_xy, views.visibility, (h, w))
        arrays = tuple(torch.from_numpy(target.arrays[name]) for name in self.contract.outputs)
        return Batch(torch.from_numpy(inputs), arrays, torch.from_numpy(target.weight) * views.known)

    def _look(self, rng: np.random.Generator, image: Image, input_hw: tuple[int, int],
              augment: Augment) -> tuple[Float, Int]:
        """Where to look: the affine from image to input pixels, and the order of the keypoints, mirrored or not."""
        view, spec, skeleton = draw_view(rng, augment), self.contract.input, self.contract.skeleton
        image_to_input = crop_affine(frame_xywh(image), input_hw, spec.padding, align=spec.align, scale=view.scale,
                                     rotation_deg=view.rotation_deg, shift=view.shift)
        if view.mirrored:
            return mirror_affine(image_to_input, input_hw[1]), skeleton.flip_order
        return image_to_input, np.arange(len(skeleton))

    def _known(self, scene: Scene, image_to_input: Float, input_hw: tuple[int, int]) -> Bool:
        """The cells whose centres show what the labels speak of."""
        grid = replace(self.contract.codec, input_hw=input_hw).grid
        h, w = grid.map_hw
        cells_xy = np.stack(np.meshgrid(np.arange(float(w)), np.arange(float(h))), -1).reshape(-1, 2)
        return _is_known(transform(grid.to_pixels(cells_xy), invert(image_to_input)), scene).reshape(h, w)


def _is_taught(scene: Scene) -> Bool:
    """(P,) True for people whom the decoder could find: those of fewer keypoints are masked like unlabelled ones."""
    return np.array([person.labelled.sum() >= FEWEST_KEYPOINTS for person in scene.people])


def _taught(scene: Scene) -> tuple[Float, Int]:
    """Keypoints (P, 17, 2) in image pixels, and their visibility, which is 0 for people who are not taught."""
    visibility = np.stack([person.visibility for person in scene.people])
    return np.stack([person.keypoints_xy for person in scene.people]), visibility * _is_taught(scene)[:, None]


def _is_known(points_xy: Float, scene: Scene) -> Bool:
    """(M,) whether the labels speak of points of the image.

    They do not in the boxes of people whom they do not describe, nor in a crowd, but for the boxes of those people in
    it whom they do (as OpenPose masks COCO). Where labels are incomplete, they speak of nothing but these people.
    """
    boxes, taught = np.stack([person.bbox_xywh for person in scene.people]), _is_taught(scene)
    on_people = _in_any(points_xy, boxes[taught])
    between = np.full(len(points_xy), scene.complete) & ~_in_any(points_xy, scene.crowds_xywh)
    return (on_people | between) & ~_in_any(points_xy, np.concatenate([boxes[~taught], scene.others_xywh]))


def _in_any(points_xy: Float, boxes_xywh: Float) -> Bool:
    """(M,) whether points lie in one of the boxes (R, 4), which reach from edge to edge of their pixels."""
    low_xy, high_xy = boxes_xywh[:, :2] - 0.5, boxes_xywh[:, :2] + boxes_xywh[:, 2:] - 0.5
    inside = (points_xy[:, None] >= low_xy) & (points_xy[:, None] <= high_xy)
    return np.asarray(inside.all(-1).any(-1))
