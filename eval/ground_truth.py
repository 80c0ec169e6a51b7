"""Ground truth of an evaluation: the instances that are measured, and all annotations as COCO's matching needs them.

Crowds and persons without keypoints are not measured, but OKS AP must know them: a detection there is ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekp.atomic import sha256
from edgekp.coco import Labels, read_coco
from edgekp.errors import DataError
from edgekp.json_file import read_labels
from edgekp.sample import Bool, Float, Int
from edgekp.skeletons import SKELETONS, Skeleton, skeleton_named, skeleton_with
from edgekp.stage import say


@dataclass(frozen=True)
class Annotations:
    """All A annotations of a file in its order: persons, crowds, and persons without a labelled keypoint.

    Attributes:
        image: (A,) position of the image in the ground truth's ``image_ids``.
        category_id: (A,)
        keypoints_xy: (A, K, 2) image pixels.
        labelled: (A, K) True where a human gave a position.
        bbox_xywh: (A, 4) image pixels.
        area_px2: (A,) pixels squared.
        crowd: (A,) True for a region of many persons.
    """

    image: Int
    category_id: Int
    keypoints_xy: Float
    labelled: Bool
    bbox_xywh: Float
    area_px2: Float
    crowd: Bool

    @property
    def ignored(self) -> Bool:
        """(A,) True where a detection neither helps nor hurts."""
        return np.asarray(self.crowd | ~self.labelled.any(1))


@dataclass(frozen=True)
class GroundTruth:
    """One annotation file. Arrays are in the order of ``labels.instances``, the N instances that are measured.

    Attributes:
        annotations: the instances, and with them what a detection may also lie on.
        category_of: category of every annotation, by its id.
        head_size_px: (N,) what MPII's PCKh divides by; NaN where the file does not say.
    """

    labels: Labels
    skeleton: Skeleton
    annotations: Annotations
    category_of: dict[int, int]
    head_size_px: Float

    @property
    def category_ids(self) -> list[int]:
        return sorted(set(self.category_of.values()))

    @cached_property
    def true_xy(self) -> Float:
        """(N, K, 2) image pixels."""
        return np.stack([instance.keypoints_xy for instance in self.labels.instances])

    @cached_property
    def visibility(self) -> Int:
        """(N, K) 0 not labelled, 1 labelled but hidden, 2 visible."""
        return np.stack([instance.visibility for instance in self.labels.instances])

    @cached_property
    def labelled(self) -> Bool:
        """(N, K) True where a human gave a position."""
        return np.asarray(self.visibility > 0)

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
        """(I,) sorted ids of the file's images: what a bootstrap draws from."""
        return np.unique([image.id for image in self.labels.images])

    @cached_property
    def image_index(self) -> Int:
        """(N,) position of each instance's image in ``image_ids``."""
        return np.searchsorted(self.image_ids, [instance.image.id for instance in self.labels.instances])

    @property
    def n_measured_images(self) -> int:
        """How many images hold an instance that is measured."""
        return len(np.unique(self.image_index))

    @cached_property
    def labels_sha256(self) -> str:
        """Hex digest of the annotation file."""
        return sha256(self.labels.path)

    def require_images(self) -> None:
        """Refuse to begin where an image that is measured is not there.

        Raises:
            DataError: How many are missing, and the first of them.
        """
        paths = sorted({instance.image.path for instance in self.labels.instances})
        missing = [path for path in paths if not Path(path).is_file()]
        if missing:
            raise DataError(f"{self.labels.path}: {len(missing)} of {len(paths)} images with people are not there, "
                            f"first {missing[0]}; check file_name, or name their folder")

    def per_image(self, values: Float | Int) -> Float:
        """(I, S) sums of (N, S) values over the instances of each image."""
        sums = np.zeros((len(self.image_ids), values.shape[1]))
        np.add.at(sums, self.image_index, values)
        return sums


def read_ground_truth(path: Path, skeleton: Skeleton, images: Path | None = None) -> GroundTruth:
    """Check an annotation file and read all of it.

    Raises:
        DataError: What ``read_coco`` refuses, an id that occurs twice, or a crowd or unlabelled person without a
            usable box.
    """
    labels = read_coco(path, skeleton, images)
    image_ids = {image.id for image in labels.images}
    entries = {}
    for raw in read_labels(path)["annotations"]:
        entry = _checked(path, raw, len(skeleton), image_ids)
        if entry.id in entries:
            raise DataError(f"{path}: annotation id {entry.id} occurs twice; ids must be unique")
        entries[entry.id] = entry
    category_of = {number: entry.category_id for number, entry in entries.items()}
    head_size_px = np.array([entries[instance.id].head_size_px for instance in labels.instances])
    annotations = _as_arrays(list(entries.values()), np.unique(list(image_ids)))
    return GroundTruth(labels, skeleton, annotations, category_of, head_size_px)


class _Entry(NamedTuple):
    """One annotation with every field that the metrics read, whatever the file left out."""

    id: int
    image_id: int
    category_id: int
    keypoints: list[float]
    bbox: list[float]
    area: float
    crowd: bool
    head_size_px: float


def _checked(path: Path, raw: dict[str, Any], k: int, image_ids: set[int]) -> _Entry:
    where = f"{path}: annotation {raw.get('id')}"
    keypoints = raw.get("keypoints") or [0] * (3 * k)
    try:
        entry = _Entry(int(raw["id"]), int(raw["image_id"]), int(raw.get("category_id", 1)),
                       [float(v) for v in keypoints], [float(v) for v in raw["bbox"]], float(raw.get("area", 0)),
                       bool(int(raw.get("iscrowd", 0))), float(raw.get("head_size_px", math.nan)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: lacks a usable id, image_id, bbox, area or keypoints ({error}); add it") from error
    if len(entry.bbox) != 4 or not all(map(math.isfinite, [*entry.bbox, entry.area, *entry.keypoints])):
        raise DataError(f"{where}: bbox {raw['bbox']}, area {entry.area}; these and keypoints must be finite")
    if entry.image_id not in image_ids:
        raise DataError(f"{where}: image_id {entry.image_id} is not among the file's images; see edgekp doctor data")
    if len(keypoints) != 3 * k:
        raise DataError(f"{where}: {len(keypoints)} keypoint values, expected 3 x {k}")
    if entry.head_size_px <= 0 or math.isinf(entry.head_size_px):
        raise DataError(f"{where}: head_size_px {entry.head_size_px}, expected a number above 0, as PCKh divides by it")
    return entry


def _as_arrays(entries: list[_Entry], image_ids: Int) -> Annotations:
    triplets = np.array([entry.keypoints for entry in entries]).reshape(len(entries), -1, 3)
    return Annotations(np.searchsorted(image_ids, [entry.image_id for entry in entries]),
                       np.array([entry.category_id for entry in entries]), triplets[..., :2], triplets[..., 2] > 0,
                       np.array([entry.bbox for entry in entries]), np.array([entry.area for entry in entries]),
                       np.array([entry.crowd for entry in entries]))


def skeleton_of(path: Path, name: str | None) -> Skeleton:
    """The named skeleton, or the one whose keypoints, or else their number, the annotation file has."""
    if name is not None:
        return skeleton_named(name)
    keypoints = _keypoint_names(path)
    if named := skeleton_with(keypoints):
        return named
    for skeleton in SKELETONS.values():
        if len(keypoints) == len(skeleton):
            say(f"eval: taking skeleton '{skeleton.name}' by its number of keypoints; --skeleton chooses another")
            return skeleton
    known = ", ".join(f"{skeleton.name} ({len(skeleton)})" for skeleton in SKELETONS.values())
    raise DataError(f"{path}: instances have {len(keypoints)} keypoints; known skeletons: {known}")


def _keypoint_names(path: Path) -> list[str]:
    """Names from the category, or as many empty ones as the first annotation has keypoints."""
    document = read_labels(path)
    try:
        for category in document.get("categories") or []:
            if category.get("keypoints"):
                return [str(name) for name in category["keypoints"]]
        lengths = [len(entry["keypoints"]) for entry in document["annotations"] if entry.get("keypoints")]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a COCO keypoints file with 'images' and 'annotations'") from error
    if not lengths:
        raise DataError(f"{path}: no annotation has keypoints, expected COCO keypoint annotations")
    return [""] * (lengths[0] // 3)
