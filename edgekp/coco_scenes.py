"""Whole images of a COCO keypoints file: the people on each, and the boxes of those without a labelled keypoint."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import Any

import numpy as np

from edgekp.coco import Labels, is_usable
from edgekp.errors import DataError
from edgekp.json_file import read_labels
from edgekp.sample import Float, Scene


def read_scenes(labels: Labels) -> tuple[Scene, ...]:
    """The images that hold one of the instances of ``read_coco``, in the order of their ids.

    An image that says ``"complete_person_annotation": false`` may show people of whom its annotations say nothing.

    Raises:
        DataError: A crowd, or a person without keypoints, has no usable box.
    """
    document = read_labels(labels.path)
    boxes: dict[tuple[Any, bool], list[Any]] = defaultdict(list)
    for entry in document["annotations"]:
        if not is_usable(entry):
            boxes[entry.get("image_id"), bool(entry.get("iscrowd", 0))].append(_box(f"{labels.path}: ", entry))
    incomplete = {entry["id"] for entry in document["images"] if entry.get("complete_person_annotation") is False}
    by_image = groupby(sorted(labels.instances, key=lambda instance: instance.image.id),
                       key=lambda instance: instance.image)
    return tuple(Scene(image, tuple(people), _stacked(boxes[image.id, False]), _stacked(boxes[image.id, True]),
                       image.id not in incomplete) for image, people in by_image)


def _box(where: str, entry: dict[str, Any]) -> Float:
    try:
        box = np.asarray(entry.get("bbox"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        box = np.full(4, np.nan)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise DataError(f"{where}annotation {entry.get('id')}: bbox {entry.get('bbox')}, expected [x, y, width, "
                        "height]: whole scenes can be learnt only where everybody without keypoints has a box")
    return box


def _stacked(boxes: list[Any]) -> Float:
    return np.reshape(boxes, (-1, 4)).astype(np.float64)
