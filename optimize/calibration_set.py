"""The training images that calibration looks at: few, but spread over what the network will meet. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgekp.atomic import sha256
from edgekp.contract import AnyContract, SceneContract
from edgekp.errors import DataError, RecipeError
from edgekp.preprocess import frame_xywh, read_image
from edgekp.sample import Float, Instance, Int
from train.brightness import brightness
from train.dataset import KeypointDataset

FEWEST_IMAGES = 128
SEED = 0


def choose_instances(instances: Sequence[Instance], count: int) -> list[Instance]:
    """Half of them as far from each other as can be in pose, visibility, light and size, the rest at random.

    The first half finds what is rare; the second is as common as the data, which observers of distributions need.

    Raises:
        DataError: Fewer than 128 instances, or an image that does not decode.
        RecipeError: Fewer than 128 asked for.
    """
    if count < FEWEST_IMAGES:
        raise RecipeError(f"optimize.quantize.images: {count}, expected at least {FEWEST_IMAGES}")
    if len(instances) < FEWEST_IMAGES:
        raise DataError(f"{len(instances)} training instances, calibration needs at least {FEWEST_IMAGES}")
    if count >= len(instances):
        return list(instances)
    far_apart = farthest_points(traits(instances), count // 2)
    shuffled = np.random.default_rng(SEED).permutation(len(instances))
    others = shuffled[~np.isin(shuffled, far_apart)]
    return [instances[i] for i in [*far_apart, *others[:count - len(far_apart)]]]


def traits(instances: Sequence[Instance]) -> Float:
    """(N, D) what calibration is to cover; each of the groups below has a variance of 1 in total.

    Pose: the keypoints in their box, at the mean place where they are not labelled. Visibility: the shares that are
    seen and that are hidden. Light: the mean grey level. Size: the logarithm of the area.
    """
    xy = np.stack([instance.keypoints_xy for instance in instances])
    visibility = np.stack([instance.visibility for instance in instances])
    boxes = np.stack([instance.bbox_xywh for instance in instances])
    pose = (xy - boxes[:, None, :2]) / np.maximum(boxes[:, None, 2:], 1)
    labelled = (visibility > 0)[..., None]
    mean = pose.sum(0, where=labelled) / np.maximum(labelled.sum(0), 1)
    shares = np.column_stack([(visibility == 2).mean(1), (visibility == 1).mean(1)])
    area = np.log(np.maximum([instance.area_px2 for instance in instances], 1.0))
    groups = [np.where(labelled, pose, mean).reshape(len(pose), -1), shares, brightness(instances)[:, None],
              area[:, None]]
    return np.concatenate([_unit_variance(group) for group in groups], 1)


def farthest_points(points: Float, count: int) -> Int:
    """Indices of ``count`` of (N, D) points, each the farthest from all before it; the first is nearest to the mean.

    Gonzalez, 1985: no point lies more than twice as far from a chosen one as with the best choice there is.
    """
    chosen = [int(_distance2(points, points.mean(0)).argmin())]
    nearest = _distance2(points, points[chosen[0]])
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distance2(points, points[chosen[-1]]))
    return np.array(chosen)


def refuse_leaks(chosen: Sequence[Instance], validation: Sequence[Instance]) -> None:
    """Calibration must not see what the network is judged by, under whatever name.

    Raises:
        DataError: An image that is also in a validation set, by path or by content.
    """
    held_out = {Path(instance.image.path).resolve() for instance in validation}
    calibrated = {Path(instance.image.path).resolve() for instance in chosen}
    sizes = {path.stat().st_size for path in calibrated}
    digests = {sha256(path): path for path in held_out if path.stat().st_size in sizes}
    for path in sorted(calibrated):
        twin = path if path in held_out else digests.get(sha256(path)) if digests else None
        if twin is not None:
            raise DataError(f"{path}: chosen for calibration, and also in a validation set{_as(path, twin)}; "
                            "take it out of the training set")


def calibration_inputs(instances: list[Instance], contract: AnyContract) -> Tensor:
    """(N, 3, h, w): what the device will see, without augmentation: the crops, or the images that they are from."""
    if isinstance(contract, SceneContract):
        images = [read_image(path) for path in dict.fromkeys(instance.image.path for instance in instances)]
        return torch.from_numpy(np.stack([contract.prepare(image, frame_xywh(image))[0] for image in images]))
    dataset = KeypointDataset(tuple(instances), contract, None, SEED)
    return torch.from_numpy(np.stack([dataset.sample(0, i)[0] for i in range(len(instances))]))


def _as(path: Path, twin: Path) -> str:
    return "" if path == twin else f" as {twin}"


def _distance2(points: Float, centre: Float) -> Float:
    return np.asarray(((points - centre) ** 2).sum(1))


def _unit_variance(group: Float) -> Float:
    """Centred, and divided by the root of the sum of its columns' variances; zero where nothing varies."""
    centred = group - group.mean(0)
    return np.asarray(centred / max(float(np.sqrt((centred ** 2).sum(1).mean())), 1e-9))
