"""The training images that calibration looks at: few, but spread over what the network will meet. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgekp.contract import AnyContract, SceneContract
from edgekp.errors import DataError, RecipeError
from edgekp.preprocess import frame_xywh, read_image
from edgekp.sample import Instance
from train.dataset import KeypointDataset

FEWEST_IMAGES = 128
SEED = 0


def choose_instances(instances: Sequence[Instance], count: int) -> list[Instance]:
    """Instances spread evenly over size and number of visible keypoints, rather than the first ones."""
    if count < FEWEST_IMAGES:
        raise RecipeError(f"optimize.quantize.images: {count}, expected at least {FEWEST_IMAGES}")
    if len(instances) < FEWEST_IMAGES:
        raise DataError(f"{len(instances)} training instances, calibration needs at least {FEWEST_IMAGES}")
    shuffled = np.random.default_rng(SEED).permutation(len(instances))
    traits = [(int((instances[i].visibility == 2).sum()), instances[i].area_px2) for i in shuffled]
    ranked = shuffled[sorted(range(len(traits)), key=traits.__getitem__)]
    return [instances[i] for i in ranked[np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)]]


def calibration_inputs(instances: list[Instance], contract: AnyContract) -> Tensor:
    """(N, 3, h, w): what the device will see, without augmentation: the crops, or the images that they are from."""
    if isinstance(contract, SceneContract):
        images = [read_image(path) for path in dict.fromkeys(instance.image.path for instance in instances)]
        return torch.from_numpy(np.stack([contract.prepare(image, frame_xywh(image))[0] for image in images]))
    dataset = KeypointDataset(tuple(instances), contract, None, SEED)
    return torch.from_numpy(np.stack([dataset.sample(0, i)[0] for i in range(len(instances))]))
