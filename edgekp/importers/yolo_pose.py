"""YOLO-pose (Ultralytics): for each image a text file with a line for each person, in fractions of the image's size.

A line is class, box centre x and y, box width and height, then x, y and mostly v of each keypoint. Fractions times the
size give COCO's coordinates back, whose first pixel's centre is 0. Without v, a keypoint at (0, 0) or left of or above
the image is not labelled.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from edgekp.errors import DataError
from edgekp.image_header import ImageSize, image_size
from edgekp.importers.checks import files_below, image_named_like, images_by_stem, numbers, read_lines, visibilities
from edgekp.importers.found import Found, Reading, Wanted

LARGEST_FRACTION = 2.0  # beyond the image's edges, but no pixel coordinate
VISIBLE = 2


def read_yolo_pose(source: Path, wanted: Wanted, *, class_number: int | None) -> Reading:
    """All people of a folder of label files; ``labels`` in its path becomes ``images``, as Ultralytics finds them.

    Raises:
        DataError: A line has another number of values, a value is no fraction, an image is missing, or there are
            several classes and none is chosen.
    """
    root = source if source.is_dir() else source.parent
    folder = wanted.images or _images_of(root)
    images = images_by_stem(folder)
    by_class: dict[int, list[Found]] = {}
    left_out: Counter[str] = Counter()
    for path in files_below(source, "*.txt", "label files"):
        lines = [(f"{path}: line {number}", line.split()) for number, line in enumerate(read_lines(path), start=1)
                 if line.strip()]
        left_out["images without an instance"] += not lines
        image = image_named_like(path, root, images, folder) if lines else ""
        for where, words in lines:
            category, person = _person(words, where, image, image_size(folder / image), wanted)
            by_class.setdefault(category, []).append(person)
    if class_number is None and len(by_class) > 1:
        raise DataError(f"{source}: instances of classes {', '.join(map(str, sorted(by_class)))}; choose one: --class")
    chosen = by_class.pop(next(iter(by_class), 0) if class_number is None else class_number, [])
    left_out["instances of other classes"] = sum(map(len, by_class.values()))
    return Reading(folder, chosen, left_out)


def _images_of(labels: Path) -> Path:
    parts = list(labels.absolute().parts)
    if "labels" not in parts:
        raise DataError(f"{labels}: no folder 'labels' in its path, so 'images' cannot be found; name it with --images")
    last = len(parts) - 1 - parts[::-1].index("labels")
    return Path(*parts[:last], "images", *parts[last + 1:])


def _person(words: list[str], where: str, image: str, size: ImageSize, wanted: Wanted) -> tuple[int, Found]:
    """Class and instance of a line."""
    k, image_wh = len(wanted.skeleton), np.array(size[:2])
    if len(words) not in (5 + 2 * k, 5 + 3 * k):
        raise DataError(f"{where}: {len(words)} values, expected {5 + 3 * k} or {5 + 2 * k}: class, box, and x, y(, v) "
                        f"of the {k} keypoints of skeleton '{wanted.skeleton.name}'; --skeleton names another")
    values = numbers(words, where)
    points = values[5:].reshape(k, -1)
    if values[0] < 0 or values[0] % 1 or np.abs([*values[1:5], *points[:, :2].ravel()]).max() > LARGEST_FRACTION:
        raise DataError(f"{where}: expected a class number, then fractions of the image's width and height")
    if points.shape[1] == 3:
        visibility = visibilities(points[:, 2], where)
    else:
        visibility = np.where((points < 0).any(-1) | (points == 0).all(-1), 0, VISIBLE)
    center, wh = values[1:3] * image_wh, values[3:5] * image_wh
    keypoints = np.concatenate([points[:, :2] * image_wh - wanted.first_pixel, visibility[:, None]], axis=1)
    return int(values[0]), Found(where, image, keypoints, np.concatenate([center - wh / 2, wh]), "YOLO")
