"""Batches for training and metrics for its curves: here alone it is decided whether a sample is a person or a scene."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import cv2
import torch
from torch import nn
from torch.utils.data import DataLoader

from edgekp.contract import AnyContract, SceneContract
from edgekp.errors import EdgekpError
from edgekp.recipe_augment import Augment
from edgekp.sample import Instance, Scene
from train.dataset import Batch, KeypointDataset, Pool, StepSampler
from train.history import MONITORS, SCENE_AP, Monitor
from train.scenes import SceneDataset
from train.validate import validate
from train.validate_scenes import validate_scenes
from train.world import World


def dataset_of(pools: list[Pool], contract: AnyContract, augment: Augment | None, seed: int,
               keypoint_weights: tuple[float, ...] = ()) -> KeypointDataset | SceneDataset:
    """The samples of all pools as the contract's network sees them: whole images, or people one by one."""
    if isinstance(contract, SceneContract):
        return SceneDataset(_scenes(pools), contract, augment, seed)
    return KeypointDataset(_instances(pools), contract, augment, seed, keypoint_weights)


def measure(net: nn.Module, pools: list[Pool], contract: AnyContract, device: torch.device,
            world: World) -> dict[str, float]:
    """The quick metrics of a network on the samples of all pools."""
    if isinstance(contract, SceneContract):
        return validate_scenes(net, _scenes(pools), contract, device, world)
    return validate(net, _instances(pools), contract, device, world)


def monitor_of(contract: AnyContract, metric: str) -> Monitor:
    """What early stop goes by: of the quick metrics the one nearest to a recipe's ``eval.metric``."""
    return SCENE_AP if isinstance(contract, SceneContract) else MONITORS[metric]


def training_batches(pools: list[Pool], contract: AnyContract, augment: Augment | None, sampler: StepSampler,
                     workers: int, keypoint_weights: tuple[float, ...] = ()) -> Iterator[Batch]:
    """Batches of every step that ``sampler`` names, made by ``workers`` processes beside the training."""
    cv2.setNumThreads(1)  # before the fork: OpenCV's threads do not survive it, and a worker would wait for them
    dataset = dataset_of(pools, contract, augment, sampler.seed, keypoint_weights)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=dataset.collate,
                        worker_init_fn=_leave_signals_to_the_parent)
    for views in loader:
        if isinstance(views, EdgekpError):
            raise views
        yield dataset.batch(views)


def _instances(pools: list[Pool]) -> tuple[Instance, ...]:
    return tuple(instance for pool in pools for instance in pool.instances)


def _scenes(pools: list[Pool]) -> tuple[Scene, ...]:
    return tuple(scene for pool in pools for scene in pool.scenes or ())


def _leave_signals_to_the_parent(_: int) -> None:
    """Ctrl-C and a batch system's SIGTERM reach every process; the parent still needs the batch of its last step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
