"""What trained arms answer on a test set, laid beside the truth. All decoders share one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims.sets import Split
from benchmarks.claims.training import AVERAGED, folder_of
from deploy.runtime.torch_session import TorchSession
from edgekp.artifact import open_artifact
from edgekp.coco import read_coco
from edgekp.codecs import Codec, Heatmap, HeatmapOffset
from edgekp.contract import Contract
from edgekp.preprocess import transform
from edgekp.sample import Float, Instance
from edgekp.skeletons import COCO17, Skeleton
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.predict import prepared_batches
from eval.results import Scored, lay_beside

MEAN_POSE = "mean pose"  # in place of an arm: the same answer for all people, scaled to the box
KEPT_IN_MEMORY = 8  # outputs of a network on a set, 13 MB or more each


@dataclass(frozen=True)
class Look:
    """One way to ask a trained arm.

    Attributes:
        arm: name in ARMS, or MEAN_POSE.
        test: name in SETS, whose validation split is measured on.
        weights: ``averaged`` or ``raw``; ``second`` for the network of the second task.
        refine: of codec ``heatmap``, in place of what the arm was trained with; ``none`` is the highest cell alone.
    """

    arm: str
    test: str
    weights: str = AVERAGED
    refine: str = ""


@dataclass(frozen=True)
class Answers:
    """Predictions beside the truth.

    Attributes:
        input_px: (N,) image pixels in one pixel of the network's input.
    """

    scored: Scored
    input_px: Float


@dataclass(frozen=True)
class Outputs:
    """What a network says of N instances: arrays by output name, and the affines (N, 2, 3) from crop to image."""

    contract: Contract
    instances: tuple[Instance, ...]
    arrays: dict[str, Float]
    crop_to_image: Float


def answers(look: Look, seed: int, splits: dict[tuple[str, str], Split]) -> Answers:
    """Ask; ``splits`` holds the test split, and for MEAN_POSE the training split as well."""
    split = splits[look.test, "val"]
    if look.arm == MEAN_POSE:
        return _mean_pose(splits[look.test, "train"], split)
    outputs = _outputs(folder_of(look.arm, seed).resolve() / look.weights, split)
    truth = _truth(split, outputs.contract.skeleton)
    decoded_xy, scores = _decoder(outputs.contract.codec, look.refine).decode(outputs.arrays)
    found = zip(outputs.instances, transform(decoded_xy, outputs.crop_to_image), scores, strict=True)
    scored = lay_beside(truth, [_result(truth, instance, xy, score) for instance, xy, score in found])
    sizes = {instance.id: np.linalg.norm(affine[:, 0])
             for instance, affine in zip(outputs.instances, outputs.crop_to_image, strict=True)}
    return Answers(scored, np.array([sizes[instance.id] for instance in truth.labels.instances]))


def _decoder(codec: Codec, refine: str) -> Codec:
    if not refine:
        return codec
    heatmap = codec.heatmap if isinstance(codec, HeatmapOffset) else codec
    assert isinstance(heatmap, Heatmap)
    return replace(heatmap, refine=refine)  # type: ignore[arg-type]


def _result(truth: GroundTruth, instance: Instance, keypoints_xy: Float, scores: Float) -> dict[str, Any]:
    return {"image_id": instance.image.id, "category_id": truth.category_of[instance.id],
            "annotation_id": instance.id, "score": float(scores.mean()),
            "keypoints": np.column_stack([keypoints_xy, scores]).ravel().tolist()}


@lru_cache(maxsize=KEPT_IN_MEMORY)
def _outputs(folder: Path, split: Split) -> Outputs:
    artifact = open_artifact(folder, "checkpoint")
    contract, session = artifact.contract, TorchSession(artifact)
    assert isinstance(contract, Contract), "no arm decodes whole scenes"
    instances: list[Instance] = []
    affines, said = [], []
    for shown, inputs, crop_to_image in prepared_batches(contract, _truth(split, contract.skeleton)):
        instances += shown
        affines.append(crop_to_image)
        said.append(session.infer(inputs))
    arrays = {name: np.concatenate([each[name] for each in said]) for name in said[0]}
    return Outputs(contract, tuple(instances), arrays, np.concatenate(affines))


def _mean_pose(train: Split, test: Split) -> Answers:
    """The mean keypoints of all labelled people, as fractions of their boxes, put into everybody's box."""
    people, truth = read_coco(train.labels, COCO17, train.pictures).instances, _truth(test, COCO17)
    in_box = np.stack([np.where(person.labelled[:, None], _to_box(person.keypoints_xy, person.bbox_xywh), np.nan)
                       for person in people])
    mean = np.nanmean(in_box, 0)
    results = [_result(truth, instance, instance.bbox_xywh[:2] + mean * instance.bbox_xywh[2:], np.ones(len(COCO17)))
               for instance in truth.labels.instances]
    return Answers(lay_beside(truth, results), np.full(len(results), np.nan))


def _to_box(keypoints_xy: Float, bbox_xywh: Float) -> Float:
    return np.asarray((keypoints_xy - bbox_xywh[:2]) / bbox_xywh[2:])


@lru_cache(maxsize=KEPT_IN_MEMORY)
def _truth(split: Split, skeleton: Skeleton) -> GroundTruth:
    return read_ground_truth(split.labels.resolve(), skeleton, split.pictures.resolve())
