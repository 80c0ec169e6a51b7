"""What ``--fix`` mends: only what has one right answer, each change counted under its fault's code."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekp.coco import AREA_OF_BOX, OUTSIDE_LIMIT
from edgekp.doctor import boxes, duplicates, ids, limbs, pictures, visibility
from edgekp.doctor.dataset import DataSet, Entry, key
from edgekp.doctor.finding import rows_of
from edgekp.sample import Bool

REFERENCES = {"images": "image_id", "categories": "category_id"}  # what annotations call the ids of a section
AREA_SOURCE = f"{AREA_OF_BOX} of the box, set by edgekp doctor"


def mended(data: DataSet) -> tuple[Any, dict[str, int]]:
    """A mended copy of the document, and how much was changed for each fault's code."""
    data = replace(data, document=copy.deepcopy(data.document))
    changes = {}
    with np.errstate(all="ignore"):
        for code, fix in FIXES.items():
            changes[code] = fix(replace(data))  # a fresh view: what an earlier fix changed is read again
    return data.document, {code: count for code, count in changes.items() if count}


def _drop_repeated(data: DataSet) -> int:
    return _drop(data, duplicates.is_repeated(data))


def _drop_without_image(data: DataSet) -> int:
    return _drop(data, data.image_row < 0)


def _drop_without_category(data: DataSet) -> int:
    return _drop(data, (data.category_row < 0) & bool(data.categories))


def _give_integers(data: DataSet) -> int:
    """1.0 becomes 1, any other id the next free number, together with what refers to it."""
    changed = 0
    for section in ("images", "annotations", "categories"):
        entries: list[Entry] = getattr(data, section)
        for entry in entries:
            value = entry.get("id")
            if isinstance(value, (bool, float)) and value == value // 1:
                entry["id"] = int(value)
                changed += 1
        changed += _renumber(data, section, [entry for entry in entries if not ids.is_integer(entry)])
    return changed


def _count_annotations_from_1(data: DataSet) -> int:
    return _renumber(data, "annotations", _marked(data.annotations, ids.has_id_zero(data.annotations)))


def _count_others_from_1(data: DataSet) -> int:
    return sum(_renumber(data, section, _marked(entries, ids.has_id_zero(entries)))
               for section, entries in (("images", data.images), ("categories", data.categories)))


def _part_annotations(data: DataSet) -> int:
    return _renumber(data, "annotations", _marked(data.annotations, ids.has_earlier_id(data.annotations)))


def _clear_visibility(data: DataSet) -> int:
    """v = 0 where it is negative, or above 2 at the origin; nothing else has one meaning."""
    at_origin = (data.keypoints_xy == 0).all(-1)
    meant = (data.visibility < 0) | (at_origin & (data.visibility > 2))
    return _write(data, visibility.is_wrong(data) & meant, {2: 0})


def _clear_unlabelled(data: DataSet) -> int:
    return _write(data, visibility.has_position_unlabelled(data) & (not visibility.are_flags(data)), {0: 0, 1: 0})


def _count_keypoints(data: DataSet) -> int:
    rows, labelled = rows_of(visibility.counts_wrongly(data)), visibility.labelled_count(data)
    for row in rows:
        data.annotations[row]["num_keypoints"] = int(labelled[row])
    return len(rows)


def _take_size(data: DataSet) -> int:
    """From the header, unless a label lies where the file has no pixels."""
    reach = data.file_wh[data.image_row] - 1 + OUTSIDE_LIMIT * data.file_wh[data.image_row].max(-1, keepdims=True)
    beyond = data.labelled & (data.keypoints_xy > reach[:, None]).any(-1)
    fits = ~np.isin(np.arange(len(data.images)), data.image_row[beyond.any(-1)])
    rows = rows_of(pictures.has_wrong_size(data) & pictures.has_header(data) & fits)
    for row in rows:
        data.images[row]["width"], data.images[row]["height"] = data.file_wh[row].tolist()
    return len(rows)


def _cut_boxes(data: DataSet) -> int:
    rows = rows_of(boxes.can_be_cut(data))
    for row in rows:
        low = np.maximum(data.bbox_xywh[row, :2], 0)
        high = np.minimum(data.bbox_xywh[row, :2] + data.bbox_xywh[row, 2:], data.annotation_wh[row])
        data.annotations[row]["bbox"] = [round(value, 6) for value in (*low.tolist(), *(high - low).tolist())]
    return len(rows)


def _take_area_of_box(data: DataSet) -> int:
    rows = rows_of(boxes.lacks_area(data) & data.has_box)
    for row in rows:
        area_px2 = AREA_OF_BOX * float(data.bbox_xywh[row, 2:].prod())
        data.annotations[row].update(area=float(f"{area_px2:.6g}"), area_source=AREA_SOURCE)
    return len(rows)


def _count_limbs_from_1(data: DataSet) -> int:
    categories = [category for category in data.categories
                  if limbs.counts_from_zero(limbs.limbs_of(category), len(data.skeleton))]
    for category in categories:
        category["skeleton"] = [[index + 1 for index in limb] for limb in category["skeleton"]]
    return len(categories)


def _turn_limbs(data: DataSet) -> int:
    turned = [limb for category in data.categories for limb in limbs.known_limbs(category, len(data.skeleton))
              if limbs.is_reversed(data, limb)]
    for limb in turned:
        limb.reverse()
    return len(turned)


def _drop_limbs(data: DataSet) -> int:
    dropped = 0
    for category in data.categories:
        known = limbs.known_limbs(category, len(data.skeleton))
        again = {id(known[index]) for index in rows_of(limbs.are_listed_before(known))}
        if again:
            category["skeleton"] = [limb for limb in category["skeleton"] if id(limb) not in again]
        dropped += len(again)
    return dropped


FIXES: dict[str, Callable[[DataSet], int]] = {  # in this order: ids before what refers to them, boxes before areas
    duplicates.REPEATED.code: _drop_repeated,
    ids.NOT_INTEGER.code: _give_integers,
    ids.ANNOTATION_TWICE.code: _part_annotations,
    ids.ANNOTATION_ZERO.code: _count_annotations_from_1,
    ids.ZERO.code: _count_others_from_1,
    ids.NO_IMAGE.code: _drop_without_image,
    ids.NO_CATEGORY.code: _drop_without_category,
    visibility.VALUE.code: _clear_visibility,
    visibility.UNLABELLED.code: _clear_unlabelled,
    visibility.COUNT.code: _count_keypoints,
    pictures.SIZE.code: _take_size,
    boxes.BOX_OUTSIDE.code: _cut_boxes,
    boxes.AREA.code: _take_area_of_box,
    limbs.ZERO_BASED.code: _count_limbs_from_1,
    limbs.REVERSED.code: _turn_limbs,
    limbs.TWICE.code: _drop_limbs,
}


def _renumber(data: DataSet, section: str, entries: Sequence[Entry]) -> int:
    """Give entries the next free ids, and change what refers to them."""
    taken = [entry["id"] for entry in getattr(data, section) if ids.is_integer(entry)]
    free = itertools.count(max([0, *taken]) + 1)
    new_ids: dict[Any, int] = {}
    for entry in entries:
        is_referred_to = section in REFERENCES and "id" in entry
        entry["id"] = new_ids.setdefault(key(entry["id"]) if is_referred_to else object(), next(free))
    for annotation in data.annotations if section in REFERENCES else []:
        old = key(annotation.get(REFERENCES[section]))
        if old in new_ids:
            annotation[REFERENCES[section]] = new_ids[old]
    return len(entries)


def _drop(data: DataSet, marked: Bool) -> int:
    """Take annotations out of the document."""
    dropped = {id(entry) for entry in _marked(data.annotations, marked)}
    if dropped:
        data.document["annotations"] = [entry for entry in data.section("annotations") if id(entry) not in dropped]
    return len(dropped)


def _write(data: DataSet, marked: Bool, values: dict[int, int]) -> int:
    """Set x (0), y (1) or v (2) of the marked (N, K) keypoints."""
    for row, keypoint in np.argwhere(marked).tolist():
        for place, value in values.items():
            data.annotations[row]["keypoints"][3 * keypoint + place] = value
    return int(marked.sum())


def _marked(entries: Sequence[Entry], marked: Bool) -> list[Entry]:
    return [entries[row] for row in rows_of(marked)]
