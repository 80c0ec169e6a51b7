"""CVAT's export as COCO keypoints, which says less than it seems to, and is mended here.

Coordinates are those of CVAT's XML: the centre of the first pixel is at 0.5. Its box is just that of the keypoints,
without any width where there is one of them, and its area may be 0; both are made anew unless somebody drew them.
Keypoints may stand in another order than the skeleton's; they are found by name.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import first_existing, inside, keypoint_index, numbers, visibilities
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.json_file import read_labels
from edgekp.sample import Bool, Float, Int

ROUNDING_PX = 0.011  # CVAT writes two decimals
SECTIONS = ("images", "annotations", "categories")


def read_cvat_coco(source: Path, wanted: Wanted, *, label: str) -> Reading:
    """All instances of a person_keypoints_*.json; with ``label`` only those of that category.

    Raises:
        DataError: The file is no COCO keypoints file, or an annotation of it makes no sense.
    """
    document = _document(source)
    images = {str(entry["id"]): entry for entry in document["images"]}
    orders = {str(entry["id"]): _order(source, entry, wanted) for entry in document["categories"]
              if entry.get("keypoints") and label in ("", entry.get("name"))}
    found, left_out = [], Counter[str]()
    for entry in document["annotations"]:
        where = f"{source}: annotation {entry['id']}"
        image, order = images.get(str(entry.get("image_id"))), orders.get(str(entry.get("category_id")))
        if image is None:
            raise DataError(f"{where}: image {entry.get('image_id')} is not listed; export the task again")
        if order is None or "keypoints" not in entry:
            left_out[f"annotations without keypoints{f' of {label}' if label else ''}"] += 1
        else:
            found.append(_instance(entry, image, order, where, wanted))
    left_out["images without an instance"] = len(images) - len({instance.image for instance in found})
    name, parents = found[0].image if found else "", [source.parent, source.parent.parent]
    folders = [folder for parent in parents for folder in (parent / "images/default", parent / "images", parent)]
    return Reading(wanted.images or first_existing(name, folders), found, left_out)


def _document(source: Path) -> dict[str, list[dict[str, Any]]]:
    document = read_labels(source)
    for section in SECTIONS:
        entries = document.get(section) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
            raise DataError(f"{source}: no COCO keypoints file: '{section}' is no list of objects with an id; "
                            "export the task again")
    return dict(document)


def _order(source: Path, category: dict[str, Any], wanted: Wanted) -> Int:
    """Position of each of the category's keypoints in the skeleton."""
    where, names = f"{source}: category '{category.get('name')}'", category["keypoints"]
    if not isinstance(names, list) or len(set(map(str, names))) != len(names):
        raise DataError(f"{where}: keypoints {names!r:.60}, expected names, each once")
    return np.array([keypoint_index(wanted.skeleton, str(name), f"{where} (--label chooses one)") for name in names])


def _instance(entry: dict[str, Any], image: dict[str, Any], order: Int, where: str, wanted: Wanted) -> Found:
    triplets = numbers(entry["keypoints"], f"{where}: keypoints", 3 * len(order)).reshape(-1, 3)
    labelled = visibilities(triplets[:, 2], where) > 0
    keypoints = np.zeros((len(wanted.skeleton), 3))
    keypoints[order] = triplets - [wanted.first_pixel, wanted.first_pixel, 0]
    box = numbers(entry.get("bbox"), f"{where}: bbox", 4)
    is_drawn = labelled.any() and box[2:].all() and not _is_tight(box, triplets, labelled)
    outline = bool(entry.get("segmentation"))
    area = float(numbers([entry.get("area")], f"{where}: area", 1)[0]) if outline else None
    width, height = numbers([image.get("width"), image.get("height")], f"{where}: image size", 2)
    return Found(where, inside(image.get("file_name"), where), keypoints, box if is_drawn else None,
                 "rectangle" if is_drawn else "", area, "outline" if outline else "", (int(width), int(height)))


def _is_tight(box: Float, triplets: Float, labelled: Bool) -> bool:
    """Is this nothing but the box of the keypoints? Outside ones count in some versions."""
    def edges(xy: Float) -> Float:
        return np.concatenate([xy.min(0), np.ptp(xy, axis=0)])

    return any(bool(np.allclose(box, edges(xy), rtol=0, atol=2 * ROUNDING_PX))
               for xy in (triplets[labelled, :2], triplets[:, :2]))
