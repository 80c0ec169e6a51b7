"""Boxes and areas: their size, their place in the image, and the keypoints in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekp.coco import OUTSIDE_LIMIT
from edgekp.doctor.dataset import DataSet, brief
from edgekp.doctor.finding import Fault, Finding, at_annotations, at_keypoints
from edgekp.doctor.values import box, has_four_values, is_normalised
from edgekp.sample import Bool, Float

CORNERS_SHARE = 0.8  # of all boxes, before they are called corners
AREA_TOLERANCE = 1.05  # area / box: boxes are often rounded to whole pixels
CLIP_TOLERANCE_PX = 1.0  # a box may reach this far out; rounding does that
FAR_OUTSIDE_BOX = 0.5  # of the box's longer side: COCO's own people have keypoints up to 0.47 outside

AREA = Fault(
    "area-not-positive", "error", "an area is missing, 0, negative or no number",
    why="OKS divides by the area: with areas of 0, AP fell from .94 to .87, silently",
    mend="write the segmentation's area; --fix takes 0.53 of the box, COCO's median for people, and says so in "
         "'area_source'", fixable=True)
AREA_LARGER = Fault(
    "area-larger-than-box", "warning", "an area is larger than its box",
    why="OKS forgives distances in proportion to sqrt(area): twice the area is 1.4 times the distance, and a better AP "
        "than was earned",
    mend="write the segmentation's area, in pixels of the image as it is; often it is that of another resolution")
BOX_MISSING = Fault(
    "bbox-missing", "error", "an instance with keypoints has no box of four numbers",
    why="the crop is made around the box; read_coco refuses the file",
    mend="write the box of your detector, or of the person; a box around the keypoints is too tight in training")
BOX_SIZE = Fault(
    "bbox-not-positive", "error", "a box has no width or no height",
    why="nothing can be cropped; read_coco refuses the file",
    mend="write bbox as x, y, width, height; negative sizes often come from corners in the wrong order")
CORNERS = Fault(
    "bbox-corners", "error", "boxes look like corners x1, y1, x2, y2 instead of x, y, width, height",
    why="every crop reaches beyond the person to the right and below, and training and device see different crops",
    mend="write width = x2 - x1 and height = y2 - y1")
BOX_OUTSIDE = Fault(
    "bbox-outside-image", "warning", "a box reaches out of its image",
    why="the crop is centred on what is not in the picture, where a detector's box would not be",
    mend="cut the box at the image's border; --fix does", fixable=True)
BOX_BESIDE = Fault(
    "bbox-beside-image", "error", "a box lies wholly outside its image",
    why="the crop is black, and the network learns to guess",
    mend="correct the box or the image's size; boxes of another resolution look like this")
KEYPOINT_OUTSIDE_IMAGE = Fault(
    "keypoint-outside-image", "error", "a labelled keypoint lies far outside its image",
    why=f"read_coco refuses what lies more than {OUTSIDE_LIMIT:.0%} of the longer side outside; labels of another "
        "resolution or of a turned picture look like this",
    mend="use the coordinates of the stored pixels; v = 0 for a keypoint that is not in the picture")
KEYPOINT_OUTSIDE_BOX = Fault(
    "keypoint-outside-box", "warning", "a labelled keypoint lies far outside its box",
    why=f"the crop is made around the box: what lies more than {FAR_OUTSIDE_BOX:.0%} of its longer side outside is cut "
        "off, or belongs to somebody else",
    mend="look whether the keypoint or the box is another person's")


def check_boxes(data: DataSet) -> Iterator[Finding]:
    yield from at_annotations(AREA, data, lacks_area(data),
                              lambda row: f"area {brief(data.annotations[row].get('area', 'missing'))}")
    box_area = data.bbox_xywh[:, 2] * data.bbox_xywh[:, 3]
    larger = data.counts & data.has_box & (data.area_px2 > AREA_TOLERANCE * box_area)
    yield from at_annotations(AREA_LARGER, data, larger,
                              lambda row: f"area {data.area_px2[row]:g}, box {box_area[row]:g}")
    yield from at_annotations(BOX_MISSING, data, data.counts & ~has_four_values(data), lambda row: box(data, row))
    flat = has_four_values(data) & (data.bbox_xywh[:, 2:] <= 0).any(-1)
    yield from at_annotations(BOX_SIZE, data, data.counts & flat, lambda row: box(data, row))
    yield from at_annotations(CORNERS, data, looks_like_corners(data), lambda row: _in_image(data, row))
    yield from _outside(data)


def _outside(data: DataSet) -> Iterator[Finding]:
    """What lies where it cannot be cropped."""
    beside = is_beside(data) & ~looks_like_corners(data)
    yield from at_annotations(BOX_OUTSIDE, data, can_be_cut(data), lambda row: _in_image(data, row))
    yield from at_annotations(BOX_BESIDE, data, beside, lambda row: _in_image(data, row))
    far = is_outside_image(data)
    yield from at_keypoints(KEYPOINT_OUTSIDE_IMAGE, data, far,
                            lambda row: f"{keypoint(data, row, far)}, image {size(data.annotation_wh[row])}")
    off = is_outside_box(data)
    yield from at_keypoints(KEYPOINT_OUTSIDE_BOX, data, off,
                            lambda row: f"{keypoint(data, row, off)}, {box(data, row)}")


def lacks_area(data: DataSet) -> Bool:
    """(N,) True where an instance that counts has no area above 0."""
    return data.counts & ~(np.isfinite(data.area_px2) & (data.area_px2 > 0))


def reaches_out(data: DataSet) -> Bool:
    """(N,) True where a box reaches more than a rounding out of its image."""
    low, high = data.bbox_xywh[:, :2], data.bbox_xywh[:, :2] + data.bbox_xywh[:, 2:]
    over = np.maximum(-low, high - data.annotation_wh).max(-1)
    return np.asarray(data.counts & data.has_box & (over > CLIP_TOLERANCE_PX))


def is_beside(data: DataSet) -> Bool:
    """(N,) True where a box and its image share no pixel."""
    low, high = data.bbox_xywh[:, :2], data.bbox_xywh[:, :2] + data.bbox_xywh[:, 2:]
    return np.asarray(data.counts & data.has_box & ((low >= data.annotation_wh) | (high <= 0)).any(-1))


def can_be_cut(data: DataSet) -> Bool:
    """(N,) True where a box reaches out of its image and is still a box when it is cut at the border."""
    return reaches_out(data) & ~is_beside(data) & ~looks_like_corners(data)


def is_outside_image(data: DataSet) -> Bool:
    """(N, K) True where a labelled keypoint lies too far outside its image for read_coco."""
    beyond = np.maximum(-data.keypoints_xy, data.keypoints_xy - (data.annotation_wh[:, None] - 1)).max(-1)
    limit = OUTSIDE_LIMIT * data.annotation_wh.max(-1, keepdims=True)
    return np.asarray(data.counts[:, None] & data.labelled & (beyond > limit))


def is_outside_box(data: DataSet) -> Bool:
    """(N, K) True where a labelled keypoint of the image lies far outside its box."""
    low = data.bbox_xywh[:, None, :2] - 0.5
    beyond = np.maximum(low - data.keypoints_xy, data.keypoints_xy - low - data.bbox_xywh[:, None, 2:]).max(-1)
    usable = data.counts & data.has_box & ~is_beside(data) & ~is_normalised(data)
    limit = FAR_OUTSIDE_BOX * data.bbox_xywh[:, 2:].max(-1, keepdims=True)
    return np.asarray(usable[:, None] & data.labelled & ~is_outside_image(data) & (beyond > limit))


def looks_like_corners(data: DataSet) -> Bool:
    """(N,) True where, in a file in which nearly all boxes do, a box makes sense only as two corners."""
    boxed = data.counts & data.has_box
    low, high = data.bbox_xywh[:, :2], data.bbox_xywh[:, 2:]
    xy = np.where(data.labelled[..., None], data.keypoints_xy, np.nan)
    with np.errstate(invalid="ignore"):
        inside = ~((xy < low[:, None] - 1) | (xy > high[:, None] + 1)).any((-1, -2))
    fits = boxed & inside & (high > low).all(-1) & (high <= data.annotation_wh + CLIP_TOLERANCE_PX).all(-1)
    enough = fits.sum() >= CORNERS_SHARE * boxed.sum() and reaches_out(data).sum() >= boxed.sum() / 2
    return fits if enough else np.zeros_like(fits)


def size(wh: Float) -> str:
    return f"{wh[0]:g} x {wh[1]:g}"


def keypoint(data: DataSet, row: int, marked: Bool) -> str:
    """The first marked keypoint of a row, by name and place."""
    index = int(marked[row].argmax())
    x, y = data.keypoints_xy[row, index]
    return f"{data.skeleton.keypoints[index]} at ({x:.6g}, {y:.6g})"


def _in_image(data: DataSet, row: int) -> str:
    return f"{box(data, row)}, image {size(data.annotation_wh[row])}"
