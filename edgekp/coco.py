"""COCO keypoint annotations, read and checked at the door. Knows no pixels and no network.

What is unusable is refused with the place and the reason; what is merely empty (crowds, instances without a
labelled keypoint) is left out and counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import DataError
from edgekp.json_file import read_labels
from edgekp.sample import Float, ImageFile, Instance
from edgekp.skeletons import SKELETONS, Skeleton, skeleton_with

AREA_OF_BOX = 0.53  # area of the segmentation over that of the box: the median of 1,558 people of COCO
OUTSIDE_LIMIT = 0.1  # of the image's longer side: real sets have labelled keypoints up to 0.094 outside (YouTube Faces)


@dataclass(frozen=True)
class Labels:
    """The usable instances of one annotation file.

    Attributes:
        skipped: instances left out because they are a crowd or have no labelled keypoint.
    """

    path: Path
    instances: tuple[Instance, ...]
    images: tuple[ImageFile, ...]
    skipped: int


def read_coco(path: Path, skeleton: Skeleton, images: Path | None = None) -> Labels:
    """Instances of a COCO keypoints file; image paths are relative to ``images`` or the file's folder.

    Raises:
        DataError: Missing or broken file, unknown image, a wrong number of keypoints, or a value that is no number.
    """
    document = read_labels(path)
    _check_structure(path, document)
    root = images or path.parent
    files = _image_files(path, document["images"], root)
    _check_names(path, document.get("categories"), skeleton)
    _check_crowds(path, document["annotations"])
    usable = [entry for entry in document["annotations"] if is_usable(entry)]
    seen: set[int] = set()
    instances = []
    for entry in usable:
        instance = _instance(path, entry, files, skeleton)
        if instance.id in seen:
            raise DataError(f"{path}: annotation id {instance.id} occurs twice; ids must be unique")
        seen.add(instance.id)
        instances.append(instance)
    if not instances:
        raise DataError(f"{path}: not one instance with a labelled keypoint (v > 0) among "
                        f"{len(document['annotations'])} annotations; label some")
    return Labels(path, tuple(instances), tuple(files.values()), len(document["annotations"]) - len(usable))


def skeleton_of(path: Path) -> Skeleton:
    """The known skeleton whose keypoint names the file's category has.

    Raises:
        DataError: The file does not say its keypoints' names, or no known skeleton has them.
    """
    document = read_labels(path)
    _check_structure(path, document)
    for category in document.get("categories", []):
        names = category.get("keypoints")
        if isinstance(names, list) and (skeleton := skeleton_with(names)):
            return skeleton
    raise DataError(f"{path}: no known skeleton has the keypoint names of its categories; name one with --skeleton: "
                    f"{', '.join(SKELETONS)}, or a TOML file of your own")


def _check_structure(path: Path, document: Any) -> None:
    """Refuse what is not lists of objects, so that all that follows may look into them."""
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        raise DataError(f"{path}: expected a COCO keypoints file with 'images' and 'annotations'")
    for section in ("images", "annotations", "categories"):
        entries = document.get(section, [])
        if not isinstance(entries, list):
            raise DataError(f"{path}: '{section}' is no list, expected one of objects")
        strange = [entry for entry in entries if not isinstance(entry, dict)]
        if strange:
            raise DataError(f"{path}: '{section}' holds {strange[0]!r:.40}, expected an object")


def _check_crowds(path: Path, entries: list[dict[str, Any]]) -> None:
    """Refuse what is neither a crowd nor none, since crowds are left out."""
    for entry in entries:
        if entry.get("iscrowd", 0) not in (0, 1):
            raise DataError(f"{path}: annotation {entry.get('id')}: iscrowd {entry['iscrowd']!r:.20}, expected 0 or 1")


def is_usable(entry: dict[str, Any]) -> bool:
    """Not a crowd, and a keypoint is labelled; what is malformed counts as usable, so that it is refused by name."""
    keypoints = entry.get("keypoints") or []
    return not entry.get("iscrowd", 0) and (not isinstance(keypoints, list) or any(v != 0 for v in keypoints[2::3]))


def _image_files(path: Path, entries: list[dict[str, Any]], root: Path) -> dict[int, ImageFile]:
    files: dict[int, ImageFile] = {}
    for entry in entries:
        try:
            file = ImageFile(whole(entry["id"]), str(root / entry["file_name"]),
                             whole(entry["width"]), whole(entry["height"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: image {str(entry)[:80]} lacks a usable id, file_name, width or height; "
                            "add it") from error
        if file.width < 1 or file.height < 1:
            raise DataError(f"{path}: image {file.id} is {file.width} x {file.height} pixels, expected at least 1 x 1")
        if file.id in files:
            raise DataError(f"{path}: image id {file.id} occurs twice; ids must be unique")
        files[file.id] = file
    return files


def _check_names(path: Path, categories: list[dict[str, Any]] | None, skeleton: Skeleton) -> None:
    """Refuse a file whose category has another number of keypoints than the skeleton."""
    for category in categories or []:
        names = category.get("keypoints") or skeleton.keypoints
        found = len(names) if isinstance(names, (list, tuple)) else 0
        if found != len(skeleton):
            raise DataError(f"{path}: category '{category.get('name')}' has {found} keypoints, skeleton "
                            f"'{skeleton.name}' has {len(skeleton)}; choose the recipe's data.skeleton to fit")


def _instance(path: Path, entry: dict[str, Any], files: dict[int, ImageFile], skeleton: Skeleton) -> Instance:
    where = f"{path}: annotation {entry.get('id')}"
    try:
        image = files[whole(entry["image_id"])]
        triplets, bbox = _numbers(entry["keypoints"]), _numbers(entry["bbox"])
        identity = whole(entry["id"])
        area = float(_numbers(entry.get("area", 0)))
    except KeyError as error:
        raise DataError(f"{where}: {error} is missing or names an image that is not listed; add it") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: a value is no number ({error}); "
                        "expected numbers in keypoints, bbox and area") from error
    if bbox.shape != (4,) or not np.isfinite(bbox).all() or bbox[2] <= 0 or bbox[3] <= 0:
        raise DataError(f"{where}: bbox {entry['bbox']}, expected [x, y, width, height] with a positive size")
    if not math.isfinite(area) or area <= 0:
        raise DataError(f"{where}: area {area}, expected a number above 0; OKS divides by it")
    _check_keypoints(where, triplets, image, skeleton)
    return Instance(identity, image, triplets.reshape(-1, 3)[:, :2], triplets[2::3].astype(np.int64), bbox, area)


def whole(value: Any) -> int:
    """A number without a fraction; Python would take true for 1, and cut 7.9 to 7."""
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(f"{value!r:.20}, expected a whole number")
    return int(value)


def _numbers(value: Any) -> Float:
    if bool in set(map(type, value if isinstance(value, list) else [value])):
        raise ValueError("true or false")
    return np.asarray(value, dtype=np.float64)


def _check_keypoints(where: str, triplets: Float, image: ImageFile, skeleton: Skeleton) -> None:
    if triplets.shape != (3 * len(skeleton),):
        raise DataError(f"{where}: keypoints of shape {list(triplets.shape)}, expected [{3 * len(skeleton)}]: "
                        f"x, y, v of each of the {len(skeleton)} of skeleton '{skeleton.name}'")
    if not np.isfinite(triplets).all():
        raise DataError(f"{where}: a keypoint is NaN or infinite; see edgekp doctor data")
    visibility = triplets[2::3]
    if not np.isin(visibility, (0, 1, 2)).all():
        raise DataError(f"{where}: visibility {sorted(set(visibility.tolist()))}, expected 0, 1 or 2")
    size = np.array([image.width, image.height])
    xy = triplets.reshape(-1, 3)[visibility > 0, :2]
    far = np.maximum(-xy, xy - (size - 1)).max(-1) > OUTSIDE_LIMIT * size.max()
    if far.any():
        raise DataError(f"{where}: keypoint {xy[far][0].tolist()} lies far outside its image of "
                        f"{image.width} x {image.height} pixels; coordinates must be those of the image file")
