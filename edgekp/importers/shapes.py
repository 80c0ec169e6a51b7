"""Points, rectangles and outlines of an image, put together to instances. Knows no file format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import keypoint_index
from edgekp.importers.found import Found, Wanted
from edgekp.sample import Float

HIDDEN, VISIBLE = 1, 2


@dataclass(frozen=True)
class Shape:
    """One thing that somebody drew, in the tool's coordinates.

    Attributes:
        where: file and place, for messages.
        label: of a point, its keypoint's name.
        group: what ties shapes to one instance; None where the tool was not told.
        xy: (P, 2): one point, two opposite corners of a rectangle, or a polygon's outline.
    """

    kind: Literal["point", "rectangle", "polygon"]
    where: str
    label: str
    group: str | None
    xy: Float
    hidden: bool = False


def instances(shapes: Iterable[Shape], image: str, where: str, wanted: Wanted, left_out: Counter[str],
              declared_wh: tuple[int, int] | None = None) -> list[Found]:
    """The instances of one image; groups without a point are left out and counted.

    Raises:
        DataError: An unknown keypoint, a keypoint twice in a group, or points without a group beside others with one.
    """
    groups: dict[str | None, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(shape.group, []).append(shape)
    with_points = {group: members for group, members in groups.items() if any(m.kind == "point" for m in members)}
    left_out["rectangles and outlines without keypoints"] += sum(
        len(members) for group, members in groups.items() if group not in with_points)
    if None in with_points and len(with_points) > 1:
        stray = next(member for member in with_points[None] if member.kind == "point")
        raise DataError(f"{stray.where}: keypoint '{stray.label}' belongs to no group, others of this image do; "
                        "say which instance it belongs to")
    return [_instance(members, image, where, wanted, declared_wh) for members in with_points.values()]


def _instance(members: list[Shape], image: str, where: str, wanted: Wanted,
              declared_wh: tuple[int, int] | None) -> Found:
    keypoints = np.zeros((len(wanted.skeleton), 3))
    for shape in members:
        if shape.kind == "point":
            index = keypoint_index(wanted.skeleton, shape.label, shape.where)
            if keypoints[index, 2]:
                raise DataError(f"{shape.where}: keypoint '{shape.label}' occurs twice in one instance; "
                                "give each instance of an image its own group")
            keypoints[index] = *(shape.xy[0] - wanted.first_pixel), HIDDEN if shape.hidden else VISIBLE
    rectangles = [shape for shape in members if shape.kind == "rectangle"]
    outlines = [shape.xy for shape in members if shape.kind == "polygon"]
    if len(rectangles) > 1:
        raise DataError(f"{rectangles[1].where}: a second rectangle of one instance; "
                        "give each instance of an image its own group")
    corners = rectangles[0].xy if rectangles else np.concatenate(outlines) if outlines else None
    box = None if corners is None else np.concatenate([corners.min(0), np.ptp(corners, axis=0)])
    return Found(where, image, keypoints, box, "rectangle" if rectangles else "outline" if outlines else "",
                 sum(map(_outline_area, outlines)) if outlines else None, "outline" if outlines else "", declared_wh)


def _outline_area(xy: Float) -> float:
    """Area of a polygon, pixels squared (shoelace formula)."""
    x, y = (xy - xy[0]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
