"""Labelme: a JSON file for each image, whose point shapes are named after keypoints.

Coordinates are decimal distances from the image's left and upper edge, as drawn on the canvas: the centre of the
first pixel is at 0.5. ``group_id`` ties shapes to one instance; a rectangle of the group is its box, a polygon its
outline. The flag ``occluded``, or that word as description, makes a keypoint hidden. Follows the JSON of Labelme 4
and 5; its ``imageData`` is not read, the image file is.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgekp.errors import DataError
from edgekp.importers.checks import files_below, group_name, inside, numbers
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.importers.shapes import Shape, instances
from edgekp.json_file import read_labels

POINTS_OF = {"point": 1, "rectangle": 2, "polygon": None}
OCCLUDED = "occluded"


def read_labelme(source: Path, wanted: Wanted) -> Reading:
    """All instances of a folder of Labelme files, or of one file.

    Raises:
        DataError: A file is no Labelme file, or a shape of it makes no sense.
    """
    root = source if source.is_dir() else source.parent
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    for path in files_below(source, "*.json", "Labelme files"):
        document = read_labels(path)
        if isinstance(document, dict) and {"images", "annotations"} <= document.keys():
            left_out["COCO files"] += 1  # such as the result of an earlier import
            continue
        shapes = _shapes(path, document, left_out)
        more = instances(shapes, _image_name(path, root, document, wanted), str(path), wanted, left_out,
                         _size(path, document))
        left_out["images without an instance"] += not more
        found += more
    return Reading(wanted.images or root, found, left_out)


def _image_name(path: Path, root: Path, document: dict[str, Any], wanted: Wanted) -> str:
    """``imagePath`` is relative to the JSON file; with --images only the file's name counts."""
    name = document.get("imagePath")
    if not isinstance(name, str):
        raise DataError(f"{path}: no imagePath; not a Labelme file?")
    if wanted.images:
        return inside(name.replace("\\", "/").rpartition("/")[2], str(path))
    return (path.parent.relative_to(root) / inside(name, str(path))).as_posix()


def _size(path: Path, document: dict[str, Any]) -> tuple[int, int] | None:
    size = (document.get("imageWidth"), document.get("imageHeight"))
    if None in size:
        return None
    width, height = numbers(size, f"{path}: imageWidth and imageHeight", 2)
    return int(width), int(height)


def _shapes(path: Path, document: Any, left_out: Counter[str]) -> list[Shape]:
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise DataError(f"{path}: no Labelme file, expected an object with a list of shapes")
    shapes = []
    for number, entry in enumerate(document["shapes"]):
        where = f"{path}: shape {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: {entry!r:.40}, expected an object")
        kind = str(entry.get("shape_type") or "polygon")  # the first versions knew nothing else
        if kind in POINTS_OF:
            shapes.append(_shape(kind, entry, f"{where} ('{entry.get('label')}')"))
        else:
            left_out[f"{kind} shapes"] += 1
    return shapes


def _shape(kind: Any, entry: dict[str, Any], where: str) -> Shape:
    points, count = entry.get("points"), POINTS_OF[kind]
    if not isinstance(points, list) or (len(points) != count if count else len(points) < 3):
        found = f"{len(points)} points" if isinstance(points, list) else "no list of points"
        raise DataError(f"{where}: a {kind} with {found}, expected {count or 'at least 3'}")
    values = [value for point in points for value in numbers(point, where, 2)]
    return Shape(kind, where, str(entry.get("label")), group_name(entry.get("group_id"), f"{where}: group_id"),
                 numbers(values, where).reshape(-1, 2), _is_hidden(entry))


def _is_hidden(entry: dict[str, Any]) -> bool:
    flags, description = entry.get("flags"), entry.get("description")
    return ((isinstance(flags, dict) and flags.get(OCCLUDED) is True)
            or (isinstance(description, str) and description.strip().lower() == OCCLUDED))
