"""A COCO keypoints file as it is, not as it should be: whatever is no list is empty, whatever is no number is NaN.

``edgekp.coco.read_coco`` is the strict door; here nothing is refused, so that all that is wrong can be told at once.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.codecs import Codec
from edgekp.doctor.picture_file import Picture
from edgekp.preprocess import InputSpec
from edgekp.sample import Bool, Float, Int
from edgekp.skeletons import Skeleton

Entry = dict[str, Any]
SHOWN = 60  # characters of a value in a message
DRAWN = 50  # annotations that are drawn on one picture
NAMELESS = Picture("missing", "no file_name")


@dataclass(frozen=True)
class Plan:
    """What the set is meant for: the crop that is made of each instance, and the codec of its targets."""

    input: InputSpec
    codec: Codec


@dataclass(frozen=True)
class DataSet:
    """N annotations of K keypoints on M images; arrays have a row for each, in the file's order.

    Attributes:
        name: how messages call the file.
        root: folder that ``file_name`` is relative to.
        plan: None if nobody said what the set is meant for.
        pictures: what is known of the image files, by ``file_name``.
    """

    name: str
    document: Any
    root: Path
    skeleton: Skeleton
    plan: Plan | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def section(self, name: str) -> list[Any]:
        """The list of that name, whatever is in it; empty if there is none."""
        found = self.document.get(name) if isinstance(self.document, dict) else None
        return found if isinstance(found, list) else []

    @cached_property
    def images(self) -> list[Entry]:
        return objects(self.section("images"))

    @cached_property
    def annotations(self) -> list[Entry]:
        return objects(self.section("annotations"))

    @cached_property
    def categories(self) -> list[Entry]:
        return objects(self.section("categories"))

    @cached_property
    def image_row(self) -> Int:
        """(N,) row of each annotation's image, -1 where no image has that id."""
        return _rows_by_id(self.images, [entry.get("image_id") for entry in self.annotations])

    @cached_property
    def category_row(self) -> Int:
        """(N,) row of each annotation's category, -1 where none has that id."""
        return _rows_by_id(self.categories, [entry.get("category_id") for entry in self.annotations])

    @cached_property
    def has_keypoints(self) -> Bool:
        """(N,) True where the annotation has any keypoints, well formed or not."""
        return np.array([entry.get("keypoints") not in (None, []) for entry in self.annotations], dtype=bool)

    @cached_property
    def is_malformed(self) -> Bool:
        """(N,) True where the keypoints are not one list of x, y, v for each of the K keypoints."""
        flat = [_is_flat(entry.get("keypoints"), 3 * len(self.skeleton)) for entry in self.annotations]
        return np.asarray(self.has_keypoints & ~np.array(flat, dtype=bool))

    @cached_property
    def keypoints(self) -> Float:
        """(N, K, 3) x, y, v; NaN where there is no number, or the list has another length."""
        rows = [entry.get("keypoints") for entry in self.annotations]
        return _number_rows(rows, 3 * len(self.skeleton)).reshape(len(rows), len(self.skeleton), 3)

    @cached_property
    def keypoints_xy(self) -> Float:
        """(N, K, 2) image pixels."""
        return self.keypoints[..., :2]

    @cached_property
    def visibility(self) -> Float:
        """(N, K), NaN where there is no number."""
        return self.keypoints[..., 2]

    @cached_property
    def labelled(self) -> Bool:
        """(N, K) True where v > 0 and the position is a number."""
        return (self.visibility > 0) & np.isfinite(self.keypoints_xy).all(-1)

    @cached_property
    def counts(self) -> Bool:
        """(N,) True where somebody trains or measures on the annotation: no crowd, and a keypoint is labelled."""
        crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in self.annotations], dtype=bool)
        return np.asarray(~crowd & self.labelled.any(-1))

    @cached_property
    def bbox_xywh(self) -> Float:
        """(N, 4), NaN where there is none."""
        return _number_rows([entry.get("bbox") for entry in self.annotations], 4)

    @cached_property
    def has_box(self) -> Bool:
        """(N,) True where the box has a size."""
        return np.asarray(np.isfinite(self.bbox_xywh).all(-1) & (self.bbox_xywh[:, 2:] > 0).all(-1))

    @cached_property
    def area_px2(self) -> Float:
        """(N,), NaN where there is none."""
        return np.array([number(entry.get("area")) for entry in self.annotations], dtype=np.float64)

    @cached_property
    def image_wh(self) -> Float:
        """(M, 2) sizes as the JSON says them, NaN where it says none."""
        sizes = [[number(entry.get("width")), number(entry.get("height"))] for entry in self.images]
        return np.array(sizes, dtype=np.float64).reshape(-1, 2)

    @cached_property
    def annotation_wh(self) -> Float:
        """(N, 2) size of each annotation's image, NaN where it has none."""
        known = np.vstack([self.image_wh, [np.nan, np.nan]])
        return known[self.image_row]

    @cached_property
    def file_names(self) -> list[str]:
        """Name of each image's file; empty where there is none."""
        return [name if isinstance(name := entry.get("file_name"), str) else "" for entry in self.images]

    @cached_property
    def picture_rows(self) -> list[Picture]:
        """What is known of each image's file."""
        return [self.pictures.get(name, NAMELESS) for name in self.file_names]

    @cached_property
    def file_wh(self) -> Int:
        """(M, 2) sizes as the files' headers say them, 0 where they say none."""
        return np.array([picture.wh for picture in self.picture_rows], dtype=np.int64).reshape(-1, 2)

    def annotations_of(self, row: int) -> tuple[int, ...]:
        """Rows of an image's annotations, the first few."""
        return tuple(np.flatnonzero(self.image_row == row)[:DRAWN].tolist())

    def name_annotation(self, row: int) -> str:
        return f"{self.name}: annotation {_identity('annotations', self.annotations[row], row)}"

    def name_image(self, row: int) -> str:
        entry = self.images[row]
        return f"{self.name}: image {_identity('images', entry, row)} ({brief(entry.get('file_name'))})"


def brief(value: Any) -> str:
    """A value as a message shows it: short, and nothing in it that moves a terminal's cursor."""
    text = value if isinstance(value, str) and value.isprintable() else reprlib.repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN - 1]}…"


def objects(entries: Sequence[Any]) -> list[Entry]:
    return [entry for entry in entries if isinstance(entry, dict)]


def key(value: Any) -> Any:
    """An id as a key of a dict, whatever it is; 1 and 1.0 are the same id, as they are in Python and NumPy."""
    return value if isinstance(value, (int, float, str)) else repr(value)


def first_rows(values: Sequence[Any]) -> Int:
    """(N,) row at which each value occurs for the first time."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(key(value), row) for row, value in enumerate(values)], dtype=np.int64)


def number(value: Any) -> float:
    """A JSON number as it is; anything else, text of digits included, is NaN."""
    if not isinstance(value, (int, float)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _identity(section: str, entry: Entry, row: int) -> str:
    return brief(entry["id"]) if "id" in entry else f"without an id ({section}[{row}])"


def _rows_by_id(entries: Sequence[Entry], wanted: Sequence[Any]) -> Int:
    """Row of the first entry with each wanted id, -1 where there is none."""
    rows = {key(entry["id"]): row for row, entry in reversed(list(enumerate(entries))) if "id" in entry}
    return np.array([rows.get(key(value), -1) for value in wanted], dtype=np.int64)


def _is_flat(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and not any(isinstance(item, list) for item in value)


def _number_rows(values: Sequence[Any], length: int) -> Float:
    """(N, length) numbers; a row that is not a list of that length is NaN throughout."""
    rows = np.full((len(values), length), np.nan)
    for row, value in zip(rows, values, strict=True):
        if isinstance(value, list) and len(value) == length:
            row[:] = [number(item) for item in value]
    return rows
