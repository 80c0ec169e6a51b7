"""COCO keypoint annotations, read and checked at the door. Knows no pixels and no network.

What is unusable is refused with the place and the reason; what is merely empty (crowds, instances without a
labelled keypoint) is left out and counted.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import DataError
from edgekp.sample import ImageFile, Instance
from edgekp.skeletons import Skeleton


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


def read_json(path: Path) -> Any:
    """Parsed JSON, or a DataError that says where it breaks."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: broken JSON at line {error.lineno}: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON text ({error})") from error


def read_coco(path: Path, skeleton: Skeleton, images: Path | None = None) -> Labels:
    """Instances of a COCO keypoints file; image paths are relative to ``images`` or the file's folder.

    Raises:
        DataError: Missing or broken file, unknown image, a wrong number of keypoints, or a value that is no number.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        raise DataError(f"{path}: expected a COCO keypoints file with 'images' and 'annotations'")
    root = images or path.parent
    files = _image_files(path, document["images"], root)
    _check_names(path, document.get("categories"), skeleton)
    usable = [entry for entry in document["annotations"] if _is_usable(entry)]
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
                        f"{len(document['annotations'])} annotations")
    return Labels(path, tuple(instances), tuple(files.values()), len(document["annotations"]) - len(usable))


def _is_usable(entry: dict[str, Any]) -> bool:
    return not entry.get("iscrowd", 0) and any(v > 0 for v in entry.get("keypoints", [])[2::3])


def _image_files(path: Path, entries: list[dict[str, Any]], root: Path) -> dict[int, ImageFile]:
    files: dict[int, ImageFile] = {}
    for entry in entries:
        try:
            file = ImageFile(int(entry["id"]), str(root / entry["file_name"]), int(entry["width"]), int(entry["height"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: image {str(entry)[:80]} lacks a usable id, file_name, width or height") from error
        if file.id in files:
            raise DataError(f"{path}: image id {file.id} occurs twice; ids must be unique")
        files[file.id] = file
    return files


def _check_names(path: Path, categories: Any, skeleton: Skeleton) -> None:
    """Refuse a file whose category has another number of keypoints than the skeleton."""
    for category in categories or []:
        found = len(category.get("keypoints", skeleton.keypoints))
        if found != len(skeleton):
            raise DataError(f"{path}: category '{category.get('name')}' has {found} keypoints, skeleton "
                            f"'{skeleton.name}' has {len(skeleton)}; choose the recipe's data.skeleton to fit")


def _instance(path: Path, entry: dict[str, Any], files: dict[int, ImageFile], skeleton: Skeleton) -> Instance:
    where = f"{path}: annotation {entry.get('id')}"
    try:
        image = files[entry["image_id"]]
        triplets = np.asarray(entry["keypoints"], dtype=np.float64)
        bbox = np.asarray(entry["bbox"], dtype=np.float64)
        identity = int(entry["id"])
        area = float(entry.get("area", 0))
    except KeyError as error:
        raise DataError(f"{where}: {error} is missing or names an image that is not listed") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: a value is no number ({error})") from error
    if triplets.shape != (3 * len(skeleton),):
        raise DataError(f"{where}: {triplets.size} keypoint values, skeleton '{skeleton.name}' has 3 x {len(skeleton)}")
    if bbox.shape != (4,) or not np.isfinite(bbox).all() or bbox[2] <= 0 or bbox[3] <= 0:
        raise DataError(f"{where}: bbox {entry['bbox']}, expected [x, y, width, height] with a positive size")
    if not np.isfinite(triplets).all() or not math.isfinite(area):
        raise DataError(f"{where}: a keypoint or the area is NaN or infinite")
    if area <= 0:
        raise DataError(f"{where}: area {area}, expected above 0; OKS divides by it")
    visibility = triplets[2::3].astype(np.int64)
    if not np.isin(visibility, (0, 1, 2)).all():
        raise DataError(f"{where}: visibility {sorted(set(visibility.tolist()))}, expected 0, 1 or 2")
    return Instance(identity, image, triplets.reshape(-1, 3)[:, :2], visibility, bbox, area)
