"""CVAT: its XML 1.1 "for images", with skeletons or with single points named after keypoints.

Coordinates are decimal distances from the image's left and upper edge: the centre of the first pixel is at 0.5.
``occluded`` makes a keypoint hidden, ``outside`` not labelled. Shapes with the same ``group_id`` are one instance: a
box gives its box, a polygon its outline. CVAT's COCO export (.json) is read by ``cvat_coco``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import first_existing, inside, numbers
from edgekp.importers.cvat_coco import read_cvat_coco
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.importers.shapes import Shape, instances
from edgekp.importers.xml_tree import Node, read_xml
from edgekp.sample import Float


def read_cvat(source: Path, wanted: Wanted, *, label: str) -> Reading:
    """All instances of a CVAT export; with ``label`` only the skeletons of that label.

    Raises:
        DataError: The file is neither of CVAT's two exports, or a shape of it makes no sense.
    """
    if source.suffix.lower() == ".json":
        return read_cvat_coco(source, wanted, label=label)
    root = read_xml(source)
    images = [node for node in root.children if node.tag == "image"]
    if root.tag != "annotations" or not images:
        is_video = any(node.tag == "track" for node in root.children)
        remedy = "export the task as 'CVAT for images 1.1'" if is_video else "label some, and export the task again"
        raise DataError(f"{source}: no <image> in <annotations>; {remedy}")
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    for node in images:
        where = f"{source}: line {node.line}"
        name = inside(node.attributes.get("name"), where)
        shapes = [shape for child in node.children for shape in _shapes(child, source, label, left_out)]
        more = instances(shapes, name, where, wanted, left_out, _size(node, where))
        left_out["images without an instance"] += not more
        found += more
    folders = (source.parent / "images", source.parent)
    return Reading(wanted.images or first_existing(found[0].image if found else "", folders), found, left_out)


def _size(node: Node, where: str) -> tuple[int, int]:
    width, height = numbers([node.attributes.get(name) for name in ("width", "height")], f"{where}: image size", 2)
    return int(width), int(height)


def _shapes(node: Node, source: Path, label: str, left_out: Counter[str]) -> list[Shape]:
    """The shapes of an element of an image; a skeleton has many."""
    where = f"{source}: line {node.line}"
    if node.tag == "skeleton":
        if label and node.attributes.get("label") != label:
            left_out[f"skeletons not labelled '{label}'"] += 1
            return []
        group = _group(node) or f"skeleton of line {node.line}"
        return [_point(child, f"{source}: line {child.line}", group) for child in node.children
                if child.tag == "points" and child.attributes.get("outside", "0") != "1"]
    if node.tag == "points":
        return [_point(node, where, _group(node))]
    if node.tag == "box":
        corners = numbers([node.attributes.get(name) for name in ("xtl", "ytl", "xbr", "ybr")], f"{where}: box", 4)
        return [Shape("rectangle", where, "", _group(node), corners.reshape(2, 2))]
    if node.tag == "polygon":
        return [Shape("polygon", where, "", _group(node), _points(node, where, 3))]
    left_out[f"{node.tag} shapes"] += 1
    return []


def _group(node: Node) -> str | None:
    group = node.attributes.get("group_id", "0")
    return None if group == "0" else group


def _point(node: Node, where: str, group: str | None) -> Shape:
    name, xy = node.attributes.get("label", ""), _points(node, where, 1)
    if len(xy) > 1:
        raise DataError(f"{where}: {len(xy)} points labelled '{name}', expected one: which is which keypoint? "
                        "Label each by its name, or use a skeleton")
    return Shape("point", where, name, group, xy, node.attributes.get("occluded") == "1")


def _points(node: Node, where: str, least: int) -> Float:
    """(P, 2) from "x,y;x,y"."""
    pairs = [pair.split(",") for pair in node.attributes.get("points", "").split(";")]
    if len(pairs) < least:
        raise DataError(f"{where}: a {node.tag} of {len(pairs)} points, expected at least {least}")
    return np.stack([numbers(pair, where, 2) for pair in pairs])
