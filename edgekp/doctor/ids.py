"""Ids and what they point to: zero, double, dangling, no integers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekp.doctor.dataset import DataSet, Entry, brief, first_rows
from edgekp.doctor.finding import Fault, Finding, at_annotations, at_images, at_places, at_set
from edgekp.sample import Bool

STRUCTURE = Fault(
    "structure", "error", "a section is missing, or holds what is no object",
    why="read_coco refuses the file; other tools stop with a KeyError",
    mend="write 'images' and 'annotations' as lists of objects")
NOT_INTEGER = Fault(
    "id-not-integer", "error", "an id is missing or no integer",
    why="read_coco refuses it; pycocotools sorts and matches ids as integers",
    mend="--fix gives new ids and changes all references with them", fixable=True)
ANNOTATION_ZERO = Fault(
    "annotation-id-zero", "error", "an annotation has the id 0",
    why="pycocotools takes a match with id 0 for no match: AP fell from .94 to .87, silently",
    mend="count from 1; --fix gives the next free id", fixable=True)
ZERO = Fault(
    "id-zero", "note", "an image or category has the id 0",
    why="many detection tools keep category 0 for the background, and test ids with 'if id:'",
    mend="count from 1; --fix gives the next free id and changes all references with it", fixable=True)
ANNOTATION_TWICE = Fault(
    "annotation-id-duplicate", "error", "two annotations have one id",
    why="pycocotools keeps one of them: AP fell from .94 to .35, silently",
    mend="--fix gives the second the next free id", fixable=True)
IMAGE_TWICE = Fault(
    "image-id-duplicate", "error", "two images have one id",
    why="annotations of both land on one of them, with the other's pixels",
    mend="give each image its own id where the file is made; which annotation belongs to which cannot be told here")
CATEGORY_TWICE = Fault(
    "category-id-duplicate", "error", "two categories have one id",
    why="the keypoint names of one are used for the other",
    mend="give each category its own id where the file is made")
NO_IMAGE = Fault(
    "image-unknown", "error", "image_id names no image of the file",
    why="read_coco refuses the file; other loaders skip the annotation silently",
    mend="add the image; --fix drops the annotation", fixable=True)
NO_CATEGORY = Fault(
    "category-unknown", "error", "category_id names no category of the file",
    why="pycocotools never evaluates the annotation, so a detection there counts as false",
    mend="correct category_id; --fix drops the annotation", fixable=True)
NO_CATEGORIES = Fault(
    "no-categories", "warning", "the file has no categories",
    why="nothing says what the keypoints are called, and pycocotools evaluates per category",
    mend="add categories with 'id', 'name' and 'keypoints'; edgekp import writes them")


def check_ids(data: DataSet) -> Iterator[Finding]:
    sections = {"images": data.images, "annotations": data.annotations, "categories": data.categories}
    entries = [(f"{data.name}: {section}[{row}]", section, entry)
               for section, listed in sections.items() for row, entry in enumerate(listed)]
    yield from at_places(STRUCTURE, _structure(data))
    yield from at_places(NOT_INTEGER, ((place, f"id {brief(entry.get('id', 'missing'))}")
                                       for place, _, entry in entries if not is_integer(entry)))
    yield from at_annotations(ANNOTATION_ZERO, data, has_id_zero(data.annotations),
                              lambda row: f"of image {brief(data.annotations[row].get('image_id'))}")
    yield from at_places(ZERO, ((place, brief(entry)) for place, section, entry in entries
                                if section != "annotations" and is_integer(entry) and entry["id"] == 0))
    yield from at_annotations(ANNOTATION_TWICE, data, has_earlier_id(data.annotations),
                              lambda row: f"annotations[{row}] has the id of an earlier one")
    yield from at_images(IMAGE_TWICE, data, has_earlier_id(data.images),
                         lambda row: f"images[{row}] has the id of an earlier one")
    yield from _references(data)


def _structure(data: DataSet) -> Iterator[tuple[str, str]]:
    """What keeps the file from being lists of objects."""
    if not isinstance(data.document, dict):
        yield data.name, f"the file holds {brief(data.document)}, expected an object"
        return
    for section in ("images", "annotations"):
        if not isinstance(data.document.get(section), list):
            yield data.name, f"'{section}' is {brief(data.document.get(section, 'missing'))}, expected a list"
    for section in ("images", "annotations", "categories"):
        for row, entry in enumerate(data.section(section)):
            if not isinstance(entry, dict):
                yield f"{data.name}: {section}[{row}]", f"{brief(entry)}, expected an object"


def _references(data: DataSet) -> Iterator[Finding]:
    yield from at_annotations(NO_IMAGE, data, data.image_row < 0,
                              lambda row: f"image_id {brief(data.annotations[row].get('image_id'))}")
    yield from at_set(NO_CATEGORIES, data, isinstance(data.document, dict) and not data.categories, "no 'categories'")
    if not data.categories:
        return
    again = np.flatnonzero(has_earlier_id(data.categories))
    yield from at_places(CATEGORY_TWICE, ((data.name, f"category {brief(data.categories[row])}") for row in again))
    yield from at_annotations(NO_CATEGORY, data, data.category_row < 0,
                              lambda row: f"category_id {brief(data.annotations[row].get('category_id'))}")


def is_integer(entry: Entry) -> bool:
    """True where the entry's id is one; JSON's true and 1.0 are none."""
    return type(entry.get("id")) is int


def has_id_zero(entries: list[Entry]) -> Bool:
    return np.array([is_integer(entry) and entry["id"] == 0 for entry in entries], dtype=bool)


def has_earlier_id(entries: list[Entry]) -> Bool:
    """True at the second and every further entry with an id; entries without an id are another matter."""
    rows = np.arange(len(entries))
    return first_rows([entry.get("id", ("without", row)) for row, entry in enumerate(entries)]) < rows
