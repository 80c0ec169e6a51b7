"""MPII Human Pose: the official ``mpii_human_pose_v1_u12_1.mat``, or the JSON lists of HRNet and MMPose.

Made in MATLAB: the first pixel is 1, in both files. HRNet subtracts it from joints and centres, MMPose 1.x from the
centres only. The box is HRNet's square of 200 px x scale around the person's centre, moved down by 15 px x scale.
``is_visible`` 0 is hidden; the neck and the head's top have no such mark and count as visible. What PCKh divides by
is 0.6 x the diagonal of the head's box, as in MPII's own evaluation; only the .mat has it.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import DataError
from edgekp.importers.checks import inside, numbers, visibilities
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.importers.mat_file import read_mat
from edgekp.importers.to_coco import area_share, default_box_factor, keypoint_box
from edgekp.json_file import read_labels
from edgekp.sample import Float

SCALE_PX = 200.0  # MPII's scale is the person's height over this
DOWN_PX = 15.0  # HRNet moves the centre, so that feet are not cut off
HEAD_SHARE = 0.6  # SC_BIAS in MPII's evaluation: its head boxes are larger than heads
HIDDEN, VISIBLE = 1, 2


def read_mpii(source: Path, wanted: Wanted) -> Reading:
    """All people with keypoints; those of the test images have none.

    Raises:
        DataError: The file is none of MPII's, or a person in it makes no sense.
    """
    images = wanted.images or source.parent / "images"
    if source.suffix.lower() == ".json":
        return Reading(images, _from_json(source, wanted))
    return _from_mat(source, wanted, images)


def _from_json(source: Path, wanted: Wanted) -> list[Found]:
    people = read_labels(source)
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise DataError(f"{source}: no MPII list: expected a list of objects with image, joints and joints_vis")
    found = []
    for number, person in enumerate(people):
        where, k = f"{source}: person {number}", len(wanted.skeleton)
        joints, marks = person.get("joints"), person.get("joints_vis")
        if not isinstance(joints, list) or len(joints) != k:
            raise DataError(f"{where}: joints {joints!r:.40}, expected {k} pairs")
        xy = np.stack([numbers(joint, f"{where}: joints", 2) for joint in joints])
        seen = visibilities(numbers(marks, f"{where}: joints_vis", k), f"{where}: joints_vis", (0, 1))
        is_placed = (xy > 0).all(-1)  # joints that nobody placed are (-1, -1) or (0, 0); the first pixel is 1
        visibility = np.where(seen > 0, VISIBLE, np.where(is_placed, HIDDEN, 0))
        center = numbers(person.get("center"), f"{where}: center", 2)
        scale = float(numbers([person.get("scale")], f"{where}: scale", 1)[0])
        found.append(_person(where, inside(person.get("image"), where), xy, visibility, wanted, center, scale))
    return found


def _from_mat(source: Path, wanted: Wanted, images: Path) -> Reading:
    release = _structs(read_mat(source, "RELEASE"))
    if len(release) != 1 or "annolist" not in release[0]:
        raise DataError(f"{source}: RELEASE has no annolist; expected mpii_human_pose_v1_u12_1.mat")
    found: list[Found] = []
    left_out: Counter[str] = Counter()
    for number, entry in enumerate(_structs(release[0]["annolist"]), start=1):
        where = f"{source}: annolist({number})"
        for index, person in enumerate(_structs(entry.get("annorect")), start=1):
            points = [point for part in _structs(person.get("annopoints")) for point in _structs(part.get("point"))]
            if points:
                name = inside("".join(str(image.get("name")) for image in _structs(entry.get("image"))), where)
                found.append(_mat_person(f"{where}.annorect({index})", name, person, points, wanted))
            else:
                left_out["people without keypoints"] += 1
    return Reading(images, found, left_out)


def _structs(value: Any) -> list[dict[str, Any]]:
    """A field's structs; where there are none, MATLAB has an empty array or nothing."""
    return value if isinstance(value, list) and all(isinstance(entry, dict) for entry in value) else []


def _mat_person(where: str, image: str, person: dict[str, Any], points: list[dict[str, Any]], wanted: Wanted) -> Found:
    keypoints = np.zeros((len(wanted.skeleton), 3))
    for point in points:
        number, x, y = numbers([point.get(name) for name in ("id", "x", "y")], f"{where}: point", 3)
        if number not in range(len(keypoints)):
            raise DataError(f"{where}: point with id {number:g}, expected 0 to {len(keypoints) - 1}")
        if keypoints[int(number), 2]:
            raise DataError(f"{where}: point with id {number:g} occurs twice; expected each once")
        keypoints[int(number)] = x, y, _visibility(point.get("is_visible", ""), where)
    position = (_structs(person.get("objpos")) or [{}])[0]
    head = numbers([person.get(name) for name in ("x1", "y1", "x2", "y2")], f"{where}: head box", 4)
    return _person(where, image, keypoints[:, :2], keypoints[:, 2], wanted,
                   numbers([position.get("x"), position.get("y")], f"{where}: objpos", 2),
                   float(numbers([person.get("scale")], f"{where}: scale", 1)[0]),
                   HEAD_SHARE * math.hypot(head[2] - head[0], head[3] - head[1]))


def _visibility(mark: Any, where: str) -> int:
    """From a number, a digit, or nothing at all."""
    if np.size(mark) == 0 or mark == "":
        return VISIBLE
    return VISIBLE if visibilities(numbers([mark], f"{where}: is_visible", 1), where, (0, 1))[0] else HIDDEN


def _person(where: str, image: str, xy: Float, visibility: Float, wanted: Wanted, center: Float, scale: float,
            head_size_px: float | None = None) -> Found:
    keypoints = np.concatenate([xy - wanted.first_pixel, visibility[:, None]], axis=1)
    middle = center - wanted.first_pixel + [0, DOWN_PX * scale]
    side = SCALE_PX * scale
    box = np.concatenate([middle - (side - 1) / 2, [side, side]])
    area, share = None, area_share(wanted.skeleton)
    if visibility.any():  # the square around a person's height says little of their area
        area = share * float(keypoint_box(keypoints, default_box_factor(wanted.skeleton))[2:].prod())
    return Found(where, image, keypoints, box, "scale and centre", area, f"box of the keypoints x {share:g}",
                 head_size_px=head_size_px)
