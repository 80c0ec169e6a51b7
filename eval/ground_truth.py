"""Ground truth of an evaluation: the instances that are measured, and the whole file as pycocotools must see it.

Crowds and persons without keypoints are not measured, but OKS AP must know them: a detection there is ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.coco import Labels, read_coco, read_json
from edgekp.errors import DataError
from edgekp.sample import Bool, Float, Int
from edgekp.skeletons import SKELETONS, Skeleton, skeleton_named
from edgekp.stage import say


@dataclass(frozen=True)
class GroundTruth:
    """One annotation file. Arrays are in the order of ``labels.instances``, the N instances that are measured.

    Attributes:
        annotations: all annotations with the fields that pycocotools reads and ids from 1; it takes an id of 0
            for "not matched".
        category_of: category of every annotation, by its id in the file.
    """

    labels: Labels
    skeleton: Skeleton
    annotations: tuple[dict[str, Any], ...]
    category_of: dict[int, int]

    @property
    def category_ids(self) -> list[int]:
        return sorted(set(self.category_of.values()))

    @cached_property
    def true_xy(self) -> Float:
        """(N, K, 2) image pixels."""
        return np.stack([instance.keypoints_xy for instance in self.labels.instances])

    @cached_property
    def labelled(self) -> Bool:
        """(N, K) True where a human gave a position."""
        return np.stack([instance.labelled for instance in self.labels.instances])

    @cached_property
    def bbox_xywh(self) -> Float:
        """(N, 4) image pixels."""
        return np.stack([instance.bbox_xywh for instance in self.labels.instances])

    @cached_property
    def area_px2(self) -> Float:
        """(N,) pixels squared."""
        return np.array([instance.area_px2 for instance in self.labels.instances])

    @cached_property
    def image_ids(self) -> Int:
        """(I,) sorted ids of the images with a measured instance: what a bootstrap draws from."""
        return np.unique([instance.image.id for instance in self.labels.instances])

    @cached_property
    def image_index(self) -> Int:
        """(N,) position of each instance's image in ``image_ids``."""
        return np.searchsorted(self.image_ids, [instance.image.id for instance in self.labels.instances])

    def per_image(self, values: Float) -> Float:
        """(I,) sums of (N,) values over the instances of each image."""
        return np.bincount(self.image_index, values, len(self.image_ids)).astype(np.float64)


def read_ground_truth(path: Path, skeleton: Skeleton, images: Path | None = None) -> GroundTruth:
    """Check an annotation file and read all of it.

    Raises:
        DataError: What ``read_coco`` refuses, or a crowd or unlabelled person without a usable box.
    """
    labels = read_coco(path, skeleton, images)
    entries = read_json(path)["annotations"]
    image_ids = {image.id for image in labels.images}
    annotations = tuple(_as_pycocotools_reads(path, entry, number, len(skeleton), image_ids)
                        for number, entry in enumerate(entries, start=1))
    category_of = {int(entry["id"]): annotation["category_id"]
                   for entry, annotation in zip(entries, annotations, strict=True)}
    return GroundTruth(labels, skeleton, annotations, category_of)


def _as_pycocotools_reads(path: Path, entry: dict[str, Any], number: int, k: int,
                          image_ids: set[int]) -> dict[str, Any]:
    """One annotation with every field that COCOeval reads, whatever the file left out."""
    where = f"{path}: annotation {entry.get('id')}"
    keypoints = entry.get("keypoints") or [0] * (3 * k)
    try:
        int(entry["id"])
        fields = {"id": number, "image_id": int(entry["image_id"]), "category_id": int(entry.get("category_id", 1)),
                  "bbox": [float(v) for v in entry["bbox"]], "area": float(entry.get("area", 0)),
                  "iscrowd": int(entry.get("iscrowd", 0)), "keypoints": [float(v) for v in keypoints],
                  "num_keypoints": sum(v > 0 for v in keypoints[2::3])}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: lacks a usable id, image_id, bbox, area or keypoints ({error})") from error
    if len(fields["bbox"]) != 4 or not all(map(math.isfinite, [*fields["bbox"], fields["area"], *fields["keypoints"]])):
        raise DataError(f"{where}: bbox {entry['bbox']}, area {fields['area']}; these and keypoints must be finite")
    if fields["image_id"] not in image_ids:
        raise DataError(f"{where}: image_id {fields['image_id']} is not among the file's images")
    if len(keypoints) != 3 * k:
        raise DataError(f"{where}: {len(keypoints)} keypoint values, expected 3 x {k}")
    return fields


def skeleton_of(path: Path, name: str | None) -> Skeleton:
    """The named skeleton, or the one whose keypoints, or else their number, the annotation file has."""
    if name is not None:
        return skeleton_named(name)
    keypoints = _keypoint_names(path)
    for skeleton in SKELETONS.values():
        if tuple(keypoints) == skeleton.keypoints:
            return skeleton
    for skeleton in SKELETONS.values():
        if len(keypoints) == len(skeleton):
            say(f"eval: taking skeleton '{skeleton.name}' by its number of keypoints; --skeleton chooses another")
            return skeleton
    known = ", ".join(f"{skeleton.name} ({len(skeleton)})" for skeleton in SKELETONS.values())
    raise DataError(f"{path}: instances have {len(keypoints)} keypoints; known skeletons: {known}")


def _keypoint_names(path: Path) -> list[str]:
    """Names from the category, or as many empty ones as the first annotation has keypoints."""
    document = read_json(path)
    try:
        for category in document.get("categories") or []:
            if category.get("keypoints"):
                return [str(name) for name in category["keypoints"]]
        lengths = [len(entry["keypoints"]) for entry in document["annotations"] if entry.get("keypoints")]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a COCO keypoints file with 'images' and 'annotations'") from error
    if not lengths:
        raise DataError(f"{path}: no annotation has keypoints")
    return [""] * (lengths[0] // 3)
