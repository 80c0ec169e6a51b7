"""From keypoints to the box a network was trained with, and how boxes overlap. Knows no image and no identity.

How much larger than its keypoints a box is was measured on the training data, each side as a part of the longer side of
the keypoints' extent (medians; left, top, right, bottom):

    COCO, 8 keypoints or more (261 people)      0.07  0.14  0.08  0.10
    COCO, all with two or more (366)            0.08  0.16  0.09  0.11
    LSP Extended (2400)                         0.10  0.10  0.10  0.10      by construction
    iBUG 300-W faces (1018)                     0     0     0     0         by construction

0.1 on every side is within 0.04 of the first and exactly that of the third. The box's longer side is then 1.20 times
that of the keypoints, in COCO 1.23 (standard deviation 13 %): less than the scaling that networks are trained with.
"""

from __future__ import annotations

import numpy as np

from edgekp.sample import Bool, Float
from edgekp.skeletons import Skeleton

BODY_MARGIN = 0.1
SMALLEST_PX = 16.0  # the longer side of a box that can still hold a person
LARGEST = 2.0  # frames: a box whose longer side is more than so many times that of the frame holds nobody
LEAST_IN_VIEW = 0.1  # of a box's area


def margin_of(skeleton: Skeleton) -> float:
    """How far a box reaches beyond the keypoints: bodies have hair, hands and feet, faces are boxed tightly."""
    return BODY_MARGIN if skeleton.lower_body.any() else 0.0


def boxes_around(keypoints_xy: Float, sure: Bool, margin: float) -> Float:
    """(N, 4) boxes xywh around those of (N, K, 2) keypoints that are sure (N, K), of which each row has one or more."""
    low = np.where(sure[..., None], keypoints_xy, np.inf).min(1)
    high = np.where(sure[..., None], keypoints_xy, -np.inf).max(1)
    extent = high - low
    reach = margin * extent.max(-1, keepdims=True)
    return np.concatenate([low - reach, extent + 2 * reach], -1)


def shrunk_slowly(before_xywh: Float, now_xywh: Float, weight: Float) -> Float:
    """(N, 4) boxes: an edge that is further inside now than before keeps so much of where it was, ``weight`` (N, 1)."""
    before_low, now_low = before_xywh[:, :2], now_xywh[:, :2]
    before_high, now_high = before_low + before_xywh[:, 2:], now_low + now_xywh[:, 2:]
    low = now_low + weight * np.minimum(before_low - now_low, 0)
    high = now_high + weight * np.maximum(before_high - now_high, 0)
    return np.concatenate([low, high - low], 1)


def shared_px2(first_xywh: Float, second_xywh: Float) -> Float:
    """(N, M) area that each of (N, 4) boxes has in common with each of (M, 4)."""
    first, second = first_xywh[:, None], second_xywh[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    return np.asarray(np.maximum(high - low, 0).prod(-1))


def overlap(first_xywh: Float, second_xywh: Float) -> Float:
    """(N, M) intersection over union; boxes without an area overlap nothing."""
    shared = shared_px2(first_xywh, second_xywh)
    union = first_xywh[:, 2:].prod(-1)[:, None] + second_xywh[:, 2:].prod(-1) - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float64).tiny))


def containment(first_xywh: Float, second_xywh: Float) -> Float:
    """(N, M) how much of the smaller of two boxes lies in the other, 0 to 1."""
    smaller = np.minimum(first_xywh[:, 2:].prod(-1)[:, None], second_xywh[:, 2:].prod(-1))
    return np.asarray(shared_px2(first_xywh, second_xywh) / np.maximum(smaller, np.finfo(np.float64).tiny))


def is_usable(boxes_xywh: Float, frame_hw: tuple[int, int]) -> Bool:
    """(N,) False for boxes that drifted away: too small, larger than any person can be, or outside the frame."""
    frame = np.array([[0.0, 0.0, frame_hw[1], frame_hw[0]]])
    side_px = boxes_xywh[:, 2:].max(-1)
    in_view = shared_px2(boxes_xywh, frame)[:, 0] >= LEAST_IN_VIEW * boxes_xywh[:, 2:].prod(-1)
    return np.asarray((side_px >= SMALLEST_PX) & (side_px <= LARGEST * max(frame_hw)) & in_view)
