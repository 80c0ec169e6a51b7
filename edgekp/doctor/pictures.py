"""Image files: are they there, do they decode, and are they what the JSON says they are?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from edgekp.doctor.dataset import DataSet, brief
from edgekp.doctor.finding import Fault, Finding, at_images
from edgekp.image_header import PIXEL_LIMIT
from edgekp.sample import Bool, Int

UPRIGHT = 1  # EXIF
SIDEWAYS = 5  # from this EXIF orientation on, width and height change places
SAME_ASPECT = 0.02  # relative: a picture that was resized keeps its aspect up to a rounding

FILE_NAME = Fault(
    "file-name", "warning", "a file_name is absolute, or leaves the folder of the images",
    why="the set works on one machine only; a file_name with '..' reads what lies outside the set",
    mend="names relative to the folder of the images, with / between folders")
MISSING = Fault(
    "image-missing", "error", "an image file is not there",
    why="training stops at it, or a loader that skips it measures on less than you think",
    mend="correct file_name, or say where the images are with --images")
BROKEN = Fault(
    "image-broken", "error", "an image file does not decode, or is cut off",
    why="training stops at it; a cut-off file can decode into half a picture and grey",
    mend="fetch the file again, or drop it and its annotations")
OVERSIZED = Fault(
    "image-oversized", "error", f"an image file claims more than {PIXEL_LIMIT // 1_000_000} million pixels",
    why="a file of 37 KB that claims 30000 x 30000 pixels takes 5.2 GB and 47 s to decode",
    mend="scale it down together with its labels, or drop it")
ROTATED = Fault(
    "image-rotated", "warning", "EXIF says that the picture is to be turned",
    why="edgekp and COCO read pixels as stored; labels made in a viewer that turns the picture do not fit them",
    mend="look at the picture on the page of --html; store the pixels upright, without the EXIF entry, and label those")
TURNED_LABELS = Fault(
    "labels-on-turned-image", "error", "the JSON has the size of the picture as EXIF turns it, not as it is stored",
    why="the labels were made on the turned picture: on the stored pixels they are all in the wrong place",
    mend="store the pixels upright, without the EXIF entry")
SIZE = Fault(
    "image-size", "error", "width and height are missing, or not those of the file",
    why="read_coco refuses an image without a size; boxes are cut, and keypoints refused, at the wrong border",
    mend="--fix takes the size from the file's header", fixable=True)
RESIZED = Fault(
    "image-resized", "error", "the file has another resolution than the JSON says, and the same aspect",
    why="the picture was scaled after labelling: every keypoint is off by that factor",
    mend="scale keypoints (x' = (x + 0.5) * s - 0.5), boxes and areas (s squared), or take the original pictures")


def check_pictures(data: DataSet) -> Iterator[Finding]:
    strange = np.array([not is_portable(name) for name in data.file_names], dtype=bool)
    yield from at_images(FILE_NAME, data, strange, lambda row: brief(data.file_names[row]))
    states = np.array([picture.state for picture in data.picture_rows], dtype=str)
    for fault, state in ((MISSING, "missing"), (BROKEN, "broken"), (OVERSIZED, "oversized")):
        yield from at_images(fault, data, states == state, lambda row: data.picture_rows[row].detail)
    rotated = (_orientation(data) != UPRIGHT) & ~is_turned(data)
    yield from at_images(ROTATED, data, rotated, lambda row: f"orientation {data.picture_rows[row].orientation}")
    yield from at_images(TURNED_LABELS, data, is_turned(data), lambda row: _sizes(data, row))
    yield from at_images(SIZE, data, has_wrong_size(data), lambda row: _sizes(data, row))
    yield from at_images(RESIZED, data, is_resized(data), lambda row: _sizes(data, row))


def is_portable(name: str) -> bool:
    """Whether a file name means the same file on every machine, inside the folder of the images."""
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root
    return not absolute and ".." not in PureWindowsPath(name).parts


def has_header(data: DataSet) -> Bool:
    """(M,) True where the file says its size."""
    return np.asarray((data.file_wh > 0).all(-1))


def has_wrong_size(data: DataSet) -> Bool:
    """(M,) True where the JSON says no size, or another shape than the file's header."""
    return ~_has_size(data) | (_differs(data) & ~is_resized(data) & ~is_turned(data))


def is_resized(data: DataSet) -> Bool:
    """(M,) True where the file has the JSON's aspect at another scale."""
    with np.errstate(divide="ignore"):
        scale = np.where(_differs(data)[:, None], data.file_wh / data.image_wh, 1.0)
    keeps_aspect = np.abs(scale[:, 0] / scale[:, 1] - 1) <= SAME_ASPECT
    return np.asarray((np.abs(scale - 1) > SAME_ASPECT).all(-1) & keeps_aspect)


def is_turned(data: DataSet) -> Bool:
    """(M,) True where the JSON's size is the file's after EXIF's turn by 90 degrees."""
    swapped = (data.image_wh == data.file_wh[:, ::-1]).all(-1)
    return np.asarray((_orientation(data) >= SIDEWAYS) & _differs(data) & swapped)


def _differs(data: DataSet) -> Bool:
    return np.asarray(has_header(data) & _has_size(data) & (data.image_wh != data.file_wh).any(-1))


def _has_size(data: DataSet) -> Bool:
    return np.asarray(np.isfinite(data.image_wh).all(-1) & (data.image_wh >= 1).all(-1))


def _orientation(data: DataSet) -> Int:
    return np.array([picture.orientation for picture in data.picture_rows], dtype=np.int64)


def _sizes(data: DataSet, row: int) -> str:
    entry, (width, height) = data.images[row], data.picture_rows[row].wh
    stated = f"{brief(entry.get('width', 'missing'))} x {brief(entry.get('height', 'missing'))}"
    return f"JSON {stated}, file {f'{width} x {height}' if width else 'unknown'}"
