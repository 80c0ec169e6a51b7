"""Skeletons and identities on a camera's frame, drawn in place. Knows no network and no window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np

from deploy.runtime.people.track import Person
from edgekp.errors import CameraError
from edgekp.sample import Bool, Float, Image, Int
from edgekp.skeletons import Skeleton

# BGR, apart for colour-blind eyes too (Okabe and Ito, 2008): sky blue is left, orange right, yellow neither.
LEFT, RIGHT, NEITHER = (233, 180, 86), (0, 140, 255), (66, 228, 240)
SIDES = (LEFT, RIGHT, NEITHER)
INK, PAPER = (255, 255, 255), (0, 0, 0)
SUBPIXEL_BITS = 4
MANY_KEYPOINTS = 30  # more, and lines must be thin to leave something of the face
BOX_PER_LINE_PX, WIDEST = 90, 6  # a box of so many pixels has lines of one pixel; of a body
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_people(bgr: Image, people: Sequence[Person], skeleton: Skeleton, least_score: float) -> None:
    """Draw limbs, then keypoints, then identities; keypoints below ``least_score`` and their limbs are left out.

    Raises:
        CameraError: The frame is not (H, W, 3) uint8.
    """
    check_frame(bgr)
    if not people:
        return
    keypoints_xy = np.array([person.prediction.keypoints_xy for person in people], dtype=np.float64)
    scores = np.array([person.prediction.scores for person in people])
    shown = np.isfinite(keypoints_xy).all(-1) & (scores >= least_score) & (scores > 0)
    points = fixed_point(keypoints_xy, bgr)
    limbs, side_of_limb, side_of_keypoint = _plan(skeleton)
    widths = np.array([line_width(person.bbox_xywh, len(skeleton)) for person in people])
    _draw_segments(bgr, points[:, limbs], np.asarray(shown[:, limbs].all(-1)), side_of_limb, widths)
    dots = np.stack([points, points], 2)  # lines without length
    _draw_segments(bgr, dots, shown, side_of_keypoint, 2 * widths + 1)
    for person, width in zip(people, widths.tolist(), strict=True):
        x, y = fixed_point(person.bbox_xywh[:2], bgr) >> SUBPIXEL_BITS
        _write(bgr, str(person.identity), (max(int(x), 0), max(int(y), 12 + 6 * width)), 0.3 + 0.15 * width)


def check_frame(bgr: Image) -> None:
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise CameraError(f"a frame of {bgr.dtype} {list(bgr.shape)}, expected uint8 [height, width, 3] in BGR; "
                          "convert what the camera gives first")


def line_width(bbox_xywh: Float, keypoints: int) -> int:
    """Pixels, by the size of the person."""
    if keypoints > MANY_KEYPOINTS:
        return 1
    return int(np.clip(np.nan_to_num(bbox_xywh[2:].max()) / BOX_PER_LINE_PX, 1, WIDEST))


def fixed_point(xy: Float, bgr: Image) -> Int:
    """Positions in OpenCV's sixteenths of pixels, 32 bits; what is not in sight ends one frame beyond it, NaN at 0."""
    size = np.array([bgr.shape[1], bgr.shape[0]])
    near = np.clip(np.nan_to_num(xy), -size, 2 * size)
    return np.asarray((near * (1 << SUBPIXEL_BITS)).round(), dtype=np.int32)


def _draw_segments(bgr: Image, segments: Int, drawn: Bool, side: Int, widths: Int) -> None:
    """Those of (N, S, 2, 2) segments that are ``drawn`` (N, S), by side (S,) and width (N,); few calls draw many."""
    for width in np.unique(widths).tolist():
        of_width = drawn & (widths == width)[:, None]
        for number, color in enumerate(SIDES):
            chosen = segments[of_width & (side == number)]
            cv2.polylines(bgr, list(chosen), False, color, width, cv2.LINE_AA, SUBPIXEL_BITS)


@lru_cache(maxsize=8)
def _plan(skeleton: Skeleton) -> tuple[Int, Int, Int]:
    """The limbs (L, 2), and the side of each of L limbs and K keypoints, a place in ``SIDES``."""
    limbs = np.array(skeleton.limbs, dtype=np.int64).reshape(-1, 2)
    side = np.array(list(_sides(skeleton)))
    first, second = side[limbs].T
    limb_side = np.where(first == second, first, np.where(first == 2, second, np.where(second == 2, first, 2)))
    return limbs, limb_side, side


def _sides(skeleton: Skeleton) -> Iterator[int]:
    for name in skeleton.keypoints:
        yield 0 if "left" in name else 1 if "right" in name else 2


def _write(bgr: Image, text: str, xy: tuple[int, int], scale: float) -> None:
    """Light text with a dark rim, to be read on anything; not a thick one below, whose letters OpenCV 5 sets wider."""
    for across, down, color in ((-1, -1, PAPER), (1, -1, PAPER), (-1, 1, PAPER), (1, 1, PAPER), (0, 0, INK)):
        cv2.putText(bgr, text, (xy[0] + across, xy[1] + down), FONT, scale, color, 1, cv2.LINE_AA)
