"""VGG Image Annotator 2: a project, or an export of its annotations as JSON or CSV.

A click is rounded to a whole number: the pixel, so the centre of the first pixel is 0. A region attribute names each
point's keypoint, another one (optional) the instance; rectangles and polygons with the same instance are its box and
outline. An attribute ``occluded`` makes a keypoint hidden: ticked, or one of yes, true, 1. Follows the file formats
of VIA 1 and 2; VIA 3 has others.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import group_name, inside, numbers, read_lines
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.importers.shapes import Shape, instances
from edgekp.json_file import parse_labels, read_labels
from edgekp.sample import Float

CSV_HEADER = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
              "region_attributes")
OCCLUDED = "occluded"
TRUE = {"1", "true", "yes"}


@dataclass(frozen=True)
class _Region:
    """One region as VIA stores it, and the line or number by which a user finds it."""

    where: str
    shape: dict[str, Any]
    attributes: dict[str, Any]


@dataclass
class _Picture:
    """The regions of one image; ``size_bytes`` is that of the file when it was opened, -1 where VIA did not know."""

    size_bytes: int
    regions: list[_Region]


def read_via(source: Path, wanted: Wanted, *, keypoint_attribute: str, instance_attribute: str) -> Reading:
    """All instances of a VIA file.

    Raises:
        DataError: The file is none of VIA's, or a region of it makes no sense.
    """
    pictures = _from_csv(source) if source.suffix.lower() == ".csv" else _from_json(source)
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    for name, picture in pictures.items():
        shapes = [shape for region in picture.regions
                  if (shape := _shape(region, keypoint_attribute, instance_attribute, left_out))]
        more = instances(shapes, name, f"{source}: {name}", wanted, left_out)
        left_out["images without an instance"] += not more
        found += more
    images = wanted.images or source.parent
    return Reading(images, found, left_out, list(_changed_files(images, pictures)))


def _changed_files(images: Path, pictures: dict[str, _Picture]) -> Iterator[str]:
    """A note if files have other sizes than when they were labelled; they may have been resized."""
    changed = [name for name, picture in pictures.items() if picture.size_bytes >= 0 and (images / name).is_file()
               and (images / name).stat().st_size != picture.size_bytes]
    if changed:
        yield (f"{len(changed)} image files changed since they were labelled, such as {changed[0]}; "
               "were they resized?")


def _from_json(source: Path) -> dict[str, _Picture]:
    document = read_labels(source)
    entries = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(e, dict) and "filename" in e for e in entries.values()):
        raise DataError(f"{source}: no VIA 2 project or annotations: expected an object with 'filename' for each image")
    pictures: dict[str, _Picture] = {}
    for key, entry in entries.items():
        where = f"{source}: {key}"
        regions = entry.get("regions", [])
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # VIA 1 numbers them
        if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
            raise DataError(f"{where}: regions {regions!r:.40}, expected a list of objects")
        picture = _picture(pictures, entry["filename"], entry.get("size", -1), where)
        picture.regions += [
            _Region(f"{where}: region {number}", _dictionary(region.get("shape_attributes"), where),
                    _dictionary(region.get("region_attributes"), where)) for number, region in enumerate(regions)]
    return pictures


def _from_csv(source: Path) -> dict[str, _Picture]:
    rows = csv.reader(read_lines(source), strict=True)
    pictures: dict[str, _Picture] = {}
    try:
        header = tuple(cell.lstrip("#").strip() for cell in next(rows, []))
        if header != CSV_HEADER:
            raise DataError(f"{source}: line 1: no CSV of VIA; expected {','.join(CSV_HEADER)}")
        for row in filter(None, rows):
            where = f"{source}: line {rows.line_num}"
            if len(row) != len(CSV_HEADER):
                raise DataError(f"{where}: {len(row)} columns, expected {len(CSV_HEADER)}")
            cells = dict(zip(CSV_HEADER, row, strict=True))
            picture = _picture(pictures, cells["filename"], cells["file_size"], where)
            shape = _dictionary(cells["region_shape_attributes"], where)
            if shape:  # an image without regions has one row without a shape
                picture.regions.append(_Region(where, shape, _dictionary(cells["region_attributes"], where)))
    except csv.Error as error:
        raise DataError(f"{source}: line {rows.line_num}: broken CSV ({error}); export it from VIA again") from error
    return pictures


def _picture(pictures: dict[str, _Picture], filename: Any, size: Any, where: str) -> _Picture:
    return pictures.setdefault(inside(filename, where), _Picture(int(numbers([size], f"{where}: size", 1)[0]), []))


def _dictionary(value: Any, where: str) -> dict[str, Any]:
    """Attributes, which the CSV has as a JSON text."""
    parsed = parse_labels(value, f"{where}: attributes {value!r:.40}") if isinstance(value, str) else value
    if not isinstance(parsed, dict):
        raise DataError(f"{where}: attributes {value!r:.40}, expected an object")
    return parsed


def _shape(region: _Region, keypoint_attribute: str, instance_attribute: str, left_out: Counter[str]) -> Shape | None:
    kind, shape, where = region.shape.get("name"), region.shape, region.where
    group = group_name(region.attributes.get(instance_attribute), f"{where}: {instance_attribute}")
    if kind == "point":
        xy = numbers([shape.get("cx"), shape.get("cy")], f"{where}: cx and cy", 2)
        return Shape("point", where, _label(region, keypoint_attribute), group, xy[None],
                     _is_true(region.attributes.get(OCCLUDED)))
    if kind == "rect":
        box = numbers([shape.get(key) for key in ("x", "y", "width", "height")], f"{where}: rect", 4)
        return Shape("rectangle", where, "", group, np.stack([box[:2], box[:2] + box[2:]]))
    if kind == "polygon":
        return Shape("polygon", where, "", group, _outline(shape, where))
    left_out[f"{kind} regions"] += 1
    return None


def _outline(shape: dict[str, Any], where: str) -> Float:
    x, y = (numbers(shape.get(key), f"{where}: {key}") for key in ("all_points_x", "all_points_y"))
    if len(x) != len(y) or len(x) < 3:
        raise DataError(f"{where}: a polygon of {len(x)} x and {len(y)} y, expected at least 3 of both")
    return np.stack([x, y], axis=1)


def _label(region: _Region, keypoint_attribute: str) -> str:
    label = region.attributes.get(keypoint_attribute)
    if not isinstance(label, str) or not label:
        present = ", ".join(region.attributes) or "none"
        raise DataError(f"{region.where}: a point without the attribute '{keypoint_attribute}' (it has: {present}); "
                        "--keypoint-attribute names the one with the keypoint's name")
    return label.strip()


def _is_true(value: Any) -> bool:
    """A ticked check box is an object with a true in it, a radio or text field a word."""
    if isinstance(value, dict):
        return any(entry is True for entry in value.values())
    return str(value).strip().lower() in TRUE
