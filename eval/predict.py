"""Run models over the ground-truth boxes of a label set, or its images. Preprocessing and decoding are the contract's.

Several models of one contract see the very same inputs: each image is read and warped once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import groupby

import numpy as np

from deploy.runtime.session import Session, open_session
from edgekp.artifact import Artifact
from edgekp.contract import Contract, SceneContract
from edgekp.preprocess import read_image, transform
from edgekp.sample import Bool, Float, Instance, Prediction
from edgekp.stage import say
from eval.ground_truth import GroundTruth
from eval.predict_scenes import predict_scenes
from eval.results import Result, as_result

BATCH = 16
Batch = tuple[list[Instance], Float, Float]  # N instances, (N, 3, h, w) inputs, (N, 2, 3) crop to image


def predict(artifacts: Sequence[Artifact], truth: GroundTruth, backend: str | None = None) -> list[list[Result]]:
    """Results of each model for the measured instances, in COCO's format with ``annotation_id`` and ``bbox``.

    An instance for which a network's output holds NaN or infinity gets no result. Models of whole scenes are given no
    boxes: their results are those of whom they find, without these two. ``backend`` is that of ``open_session``.
    """
    contract, names = artifacts[0].contract, [str(artifact.folder) for artifact in artifacts]
    with ExitStack() as stack:
        sessions = [stack.enter_context(closing(open_session(artifact, _cores(), backend))) for artifact in artifacts]
        say(f"eval: {len(sessions)} model(s) on {len(truth.labels.instances)} instances of {truth.labels.path}")
        if isinstance(contract, SceneContract):
            return predict_scenes(names, sessions, contract, truth)
        return _predict_boxes(names, sessions, contract, truth)


def _predict_boxes(names: list[str], sessions: list[Session], contract: Contract,
                   truth: GroundTruth) -> list[list[Result]]:
    results: list[list[Result]] = [[] for _ in sessions]
    for instances, inputs, crop_to_image in prepared_batches(contract, truth):
        for session, found in zip(sessions, results, strict=True):
            found.extend(_infer(session, contract, truth, instances, inputs, crop_to_image))
    total = len(truth.labels.instances)
    for name, found in zip(names, results, strict=True):
        if len(found) < total:
            say(f"eval: {name}: NaN or infinite outputs for {total - len(found)} of {total} instances")
    return results


def predict_one(session: Session, contract: Contract, truth: GroundTruth, flip_test: bool = False) -> list[Result]:
    """Results of an open session, shown and read as ``contract`` says.

    Args:
        flip_test: average the keypoints with those of the mirrored crop, swapped by the skeleton's flip pairs.
    """
    return [result for instances, inputs, crop_to_image in prepared_batches(contract, truth)
            for result in _infer(session, contract, truth, instances, inputs, crop_to_image, flip_test)]


def prepared_batches(contract: Contract, truth: GroundTruth) -> Iterator[Batch]:
    """The measured instances, image by image, as the network sees them."""
    waiting: list[tuple[Instance, Float]] = []
    inputs = np.empty((BATCH, 3, *contract.input.input_hw), np.float32)
    by_image = sorted(truth.labels.instances, key=lambda instance: instance.image.id)
    for image, instances in groupby(by_image, key=lambda instance: instance.image):
        pixels = read_image(image.path)
        for instance in instances:
            _, crop_to_image = contract.prepare(pixels, instance.bbox_xywh, out=inputs[len(waiting)])
            waiting.append((instance, crop_to_image))
            if len(waiting) == BATCH:
                yield _batch(waiting, inputs)
                waiting, inputs = [], np.empty_like(inputs)
    if waiting:
        yield _batch(waiting, inputs)


def _batch(waiting: list[tuple[Instance, Float]], inputs: Float) -> Batch:
    instances, affines = zip(*waiting, strict=True)
    return list(instances), inputs[:len(waiting)], np.stack(affines)


def _infer(session: Session, contract: Contract, truth: GroundTruth, instances: list[Instance], inputs: Float,
           crop_to_image: Float, flip_test: bool = False) -> list[Result]:
    in_crop_xy, scores, finite = _keypoints(session, contract, inputs)
    if flip_test:
        mirrored_xy, mirrored_scores, _ = _keypoints(session, contract, inputs[..., ::-1])
        order, width = contract.skeleton.flip_order, inputs.shape[-1]
        in_crop_xy = (in_crop_xy + mirrored_xy[:, order] * [-1, 1] + [width - 1, 0]) / 2
        scores = (scores + mirrored_scores[:, order]) / 2
    image_xy = transform(in_crop_xy, crop_to_image)
    return [_as_result(instance, Prediction(xy, score), truth.category_of[instance.id])
            for instance, xy, score, sound in zip(instances, image_xy, scores, finite, strict=True) if sound]


def _keypoints(session: Session, contract: Contract, inputs: Float) -> tuple[Float, Float, Bool]:
    """Keypoints (N, K, 2) in input pixels, scores (N, K), and (N,) whether all outputs were finite."""
    outputs = session.infer(inputs)
    finite = np.all([np.isfinite(array).reshape(len(inputs), -1).all(1) for array in outputs.values()], axis=0)
    keypoints_xy, scores = contract.codec.decode(outputs)
    return keypoints_xy, scores, finite


def _as_result(instance: Instance, prediction: Prediction, category_id: int) -> Result:
    return as_result(instance.image.id, category_id, prediction) | {"annotation_id": instance.id,
                                                                    "bbox": instance.bbox_xywh.tolist()}


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
