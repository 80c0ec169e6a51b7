"""Thumbnails of what a finding is about: the picture with boxes, limbs and keypoints, left and right in two colours."""

from __future__ import annotations

from base64 import b64encode

import cv2
import numpy as np

from edgekp.doctor.dataset import DataSet
from edgekp.doctor.finding import Shot
from edgekp.doctor.sides import side_of
from edgekp.errors import DataError
from edgekp.preprocess import InputSpec, compose, crop, crop_affine, invert, read_image, transform
from edgekp.sample import Float, Image

SIDE_PX = 320
MARGIN = 1.3
VIEW = InputSpec((SIDE_PX, SIDE_PX), pad_value=96)
JPEG_QUALITY = 78
DIMMED = 0.75  # brightness of the photograph, so that bright lines stand out on any of them
SUBPIXEL_BITS = 4
MANY_KEYPOINTS = 30  # more, and dots must be small to leave something of the face

# Apart for colour-blind eyes too (Okabe and Ito, 2008).
COLORS_RGB = {"left": (86, 180, 233), "right": (255, 140, 0), "": (240, 240, 240)}
BOX_RGB = (0, 158, 115)


def thumbnail_uri(shot: Shot) -> str:
    """A data URI of a JPEG; empty where there is no picture to draw on."""
    pixels = _drawn(shot)
    if pixels is None:
        return ""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    encoded, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded
    return "data:image/jpeg;base64," + b64encode(jpeg.tobytes()).decode()


def _drawn(shot: Shot) -> Image | None:
    """(SIDE_PX, SIDE_PX, 3) RGB, or None where the picture cannot be shown."""
    data = shot.data
    if shot.image < 0 or data.picture_rows[shot.image].state != "fine":
        return None
    try:
        image = read_image(data.root / data.file_names[shot.image])
    except DataError:  # only the header was looked at
        return None
    to_view = crop_affine(_region_xywh(shot), VIEW.input_hw, padding=1.0)
    canvas = crop(*_shrunk(image, to_view), VIEW)
    if shot.annotations:
        canvas = (DIMMED * canvas).astype(np.uint8)
    for row in shot.annotations:
        _draw_instance(canvas, data, row, to_view)
    return canvas


def _region_xywh(shot: Shot) -> Float:
    """What is shown: a single instance with a margin, else the whole picture."""
    data, size = shot.data, shot.data.file_wh[shot.image].astype(np.float64)
    whole = np.array([0.0, 0.0, *size])
    rows = [row for row in shot.annotations if data.counts[row]]
    if not rows or len(shot.annotations) > 2:
        return whole
    points = [data.keypoints_xy[rows][data.labelled[rows]]]
    boxed = [row for row in rows if data.has_box[row]]
    points += [data.bbox_xywh[boxed, :2], data.bbox_xywh[boxed, :2] + data.bbox_xywh[boxed, 2:]]
    inside = np.clip(np.concatenate(points), -0.25 * size, 1.25 * size)
    low, high = inside.min(0), inside.max(0)
    side = MARGIN * max(*(high - low), 16.0)
    return np.array([*(low + high - side) / 2, side, side])


def _shrunk(image: Image, to_view: Float) -> tuple[Image, Float]:
    """The picture at no more than twice the size that is shown, which keeps fine lines, and its affine to the view."""
    height, width = image.shape[:2]
    factor = int(1 / np.linalg.norm(to_view[0, :2]))
    if factor < 2 or min(height, width) < factor:
        return image, to_view
    small_wh = np.array([width // factor, height // factor])
    scale = small_wh / (width, height)
    to_small = np.column_stack([np.diag(scale), (scale - 1) / 2])
    small = cv2.resize(image, small_wh.tolist(), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), compose(to_view, invert(to_small))


def _draw_instance(canvas: Image, data: DataSet, row: int, to_view: Float) -> None:
    """Box, limbs and keypoints; what is hidden is a ring, what is unlabelled is left out."""
    names, labelled = data.skeleton.keypoints, data.labelled[row]
    thick = 1 if len(names) > MANY_KEYPOINTS else 2
    if data.has_box[row]:
        x, y, w, h = data.bbox_xywh[row]
        corners = np.array([[x - 0.5, y - 0.5], [x + w - 0.5, y + h - 0.5]])
        low, high = _fixed_point(corners, to_view)
        cv2.rectangle(canvas, low, high, BOX_RGB, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    points = _fixed_point(np.where(labelled[:, None], data.keypoints_xy[row], 0.0), to_view)
    for start, end in data.skeleton.limbs:
        if labelled[start] and labelled[end]:
            color = COLORS_RGB[side_of(names[start]) if side_of(names[start]) == side_of(names[end]) else ""]
            cv2.line(canvas, points[start], points[end], color, thick, cv2.LINE_AA, SUBPIXEL_BITS)
    for index in np.flatnonzero(labelled):
        filled = 1 if data.visibility[row, index] == 1 else cv2.FILLED
        cv2.circle(canvas, points[index], 2 * thick << SUBPIXEL_BITS, COLORS_RGB[side_of(names[index])], filled,
                   cv2.LINE_AA, SUBPIXEL_BITS)


def _fixed_point(points_xy: Float, to_view: Float) -> list[tuple[int, int]]:
    """(K, 2) image pixels as OpenCV's fixed-point positions in the view, far ones drawn in to where integers reach."""
    places = np.clip(transform(points_xy, to_view), -4 * SIDE_PX, 4 * SIDE_PX)
    return [(int(x), int(y)) for x, y in np.rint(places * 2**SUBPIXEL_BITS)]
