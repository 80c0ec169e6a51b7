"""Whole images of a COCO keypoints file: the people on each, and the boxes of those without a labelled keypoint."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import Any

import numpy as np

from edgekp.coco import Labels, is_usable, whole
from edgekp.errors import DataError
from edgekp.json_file import read_labels
from edgekp.sample import Float, Scene


def read_scenes(labels: Labels) -> tuple[Scene, ...]:
    """The images that hold one of the instances of ``read_coco``, in the order of their ids.

    An image that says ``"complete_person_annotation": false`` may show people of whom its annotations say nothing.

    Raises:
        DataError: A crowd, or a person without keypoints, has no usable box or is on no listed image.
    """
    document = read_labels(labels.path)
    ids = {image.id for image in labels.images}
    boxes: dict[tuple[int, bool], list[Any]] = defaultdict(list)
    for entry in document["annotations"]:
        if not is_usable(entry):
            where = f"{labels.path}: annotation {entry.get('id')}"
            boxes[_image_id(where, entry, ids), bool(entry.get("iscrowd", 0))].append(_box(where, entry))
    incomplete = {whole(entry["id"]) for entry in document["images"]
                  if entry.get("complete_person_annotation") is False}
    by_image = groupby(sorted(labels.instances, key=lambda instance: instance.image.id),
                       key=lambda instance: instance.image)
    return tuple(Scene(image, tuple(people), _stacked(boxes[image.id, False]), _stacked(boxes[image.id, True]),
                       image.id not in incomplete) for image, people in by_image)


def _image_id(where: str, entry: dict[str, Any], ids: set[int]) -> int:
    try:
        identity = whole(entry.get("image_id"))
    except (TypeError, ValueError, OverflowError):
        identity = None
    if identity not in ids:
        raise DataError(f"{where}: image_id {entry.get('image_id')!r:.20} names no image that is listed; add it")
    return identity


def _box(where: str, entry: dict[str, Any]) -> Float:
    try:
        box = np.asarray(entry.get("bbox"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        box = np.full(4, np.nan)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise DataError(f"{where}: bbox {entry.get('bbox')!r:.60}, expected [x, y, width, height]: "
                        "whole scenes can be learnt only where everybody without keypoints has a box")
    return box


def _stacked(boxes: list[Any]) -> Float:
    return np.reshape(boxes, (-1, 4)).astype(np.float64)
