"""COCO keypoints files with seeded damage, as exporters, editors and disks do it, at the door of training.

A try survives if the file is refused with one line, or if what is read is what the undamaged file says; an instance
without keypoints is left out, counted, and training says so. A digit that became another digit looks like any other
label: only a digest tells, and a stage's key has one of each label file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.faults.outcome import Outcome, tally
from edgekp.coco import Labels, read_coco
from edgekp.errors import DataError
from edgekp.skeletons import SKELETONS

FAULT = "damaged-annotations"
SKELETON = SKELETONS["coco17"]
PEOPLE, SIDE = 6, 200
Document = dict[str, Any]
Dice = np.random.Generator

NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "9" * 400, "null", "true", '"x"', "[]", "{}",
              "[[1]]")
FIELDS = {"images": ("id", "file_name", "width", "height"),
          "annotations": ("id", "image_id", "keypoints", "bbox", "area")}
NUMBERS = {"images": ("id", "width", "height"), "annotations": ("id", "image_id", "area")}


def document(dice: Dice) -> Document:
    """People on pictures, all keypoints labelled."""
    names = list(SKELETON.keypoints)
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE} for i in range(PEOPLE)]
    annotations = []
    for i in range(PEOPLE):
        xy = dice.uniform(10, SIDE - 10, (len(names), 2)).round(2)
        triplets = np.concatenate([xy, dice.integers(1, 3, (len(names), 1))], axis=1).ravel().tolist()
        annotations.append({"id": 100 + i, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "keypoints": triplets,
                            "bbox": [5.5, 6.5, 180.25, 175.75], "area": 20000.5 + i})
    return {"images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "person", "keypoints": names}]}


def _entry(doc: Document, dice: Dice, section: str = "annotations") -> dict[str, Any]:
    entry: dict[str, Any] = doc[section][dice.integers(PEOPLE)]
    return entry


def _field(dice: Dice, table: dict[str, tuple[str, ...]] = FIELDS) -> tuple[str, str]:
    section = str(dice.choice(list(table)))
    return section, str(dice.choice(table[section]))


def _cut(doc: Document, dice: Dice) -> bytes:
    data = json.dumps(doc).encode()
    return data[:dice.integers(len(data))]


def _byte_lost(doc: Document, dice: Dice) -> bytes:
    """A byte of the file's structure is gone: quote, colon, bracket or brace."""
    data = json.dumps(doc).encode()
    at = dice.choice([i for i, byte in enumerate(data) if byte in b'":[]{}'])
    return data[:at] + data[at + 1:]


def _zeros(doc: Document, dice: Dice) -> bytes:
    """A block that never reached the disk."""
    data = json.dumps(doc).encode()
    at = int(dice.integers(len(data) - 64))
    return data[:at] + bytes(64) + data[at + 64:]


def _odd_value(doc: Document, dice: Dice) -> bytes:
    section, field = _field(dice)
    text = "null" if field == "file_name" else str(dice.choice(NO_NUMBERS))  # another name is another file, or none
    return _with_text(doc, _entry(doc, dice, section), field, text)


def _odd_part(doc: Document, dice: Dice) -> bytes:
    """One number of a list is none."""
    values = _entry(doc, dice)[str(dice.choice(["keypoints", "bbox"]))]
    return _with_text(doc, values, int(dice.integers(len(values))), str(dice.choice(NO_NUMBERS)))


def _fraction(doc: Document, dice: Dice) -> bytes:
    section, field = _field(dice, {"images": ("id", "width", "height"), "annotations": ("id", "image_id")})
    _entry(doc, dice, section)[field] += 0.5
    return json.dumps(doc).encode()


def _not_above_zero(doc: Document, dice: Dice) -> bytes:
    section, field = _field(dice, {"images": ("width", "height"), "annotations": ("area",)})
    _entry(doc, dice, section)[field] = float(dice.choice([0, -1, -1e9]))
    return json.dumps(doc).encode()


def _no_box(doc: Document, dice: Dice) -> bytes:
    _entry(doc, dice)["bbox"][int(dice.integers(2, 4))] = float(dice.choice([0, -5]))
    return json.dumps(doc).encode()


def _field_gone(doc: Document, dice: Dice) -> bytes:
    section, field = _field(dice)
    del _entry(doc, dice, section)[field]
    return json.dumps(doc).encode()


def _named_twice(doc: Document, dice: Dice) -> bytes:
    """A field stands twice in an entry, with another value."""
    section, field = _field(dice, NUMBERS)
    entry = _entry(doc, dice, section)
    return json.dumps(doc).replace(json.dumps(entry), json.dumps(entry)[:-1] + f', "{field}": 1}}').encode()


def _same_id(doc: Document, dice: Dice) -> bytes:
    section = str(dice.choice(["images", "annotations"]))
    first, second = dice.choice(PEOPLE, 2, replace=False)
    doc[section][first]["id"] = doc[section][second]["id"]
    return json.dumps(doc).encode()


def _unknown_image(doc: Document, dice: Dice) -> bytes:
    _entry(doc, dice)["image_id"] = int(dice.choice([0, -1, 999]))
    return json.dumps(doc).encode()


def _wrong_count(doc: Document, dice: Dice) -> bytes:
    values = _entry(doc, dice)["keypoints"]
    values[:] = values[:int(dice.integers(1, len(values)))] if dice.random() < 0.5 else [*values, 1.0, 1.0, 2]
    return json.dumps(doc).encode()


def _wrong_visibility(doc: Document, dice: Dice) -> bytes:
    values = _entry(doc, dice)["keypoints"]
    values[3 * int(dice.integers(len(SKELETON))) + 2] = float(dice.choice([3, -1, 0.5, 200]))
    return json.dumps(doc).encode()


def _far_outside(doc: Document, dice: Dice) -> bytes:
    """Coordinates of a larger picture, or fractions lost their point."""
    values = _entry(doc, dice)["keypoints"]
    values[3 * int(dice.integers(len(SKELETON))) + int(dice.integers(2))] = float(dice.choice([-500, 1e4, 1e300]))
    return json.dumps(doc).encode()


def _other_skeleton(doc: Document, dice: Dice) -> bytes:
    doc["categories"][0]["keypoints"] = list(SKELETON.keypoints)[:int(dice.integers(1, len(SKELETON)))]
    return json.dumps(doc).encode()


def _strange_crowd(doc: Document, dice: Dice) -> bytes:
    _entry(doc, dice)["iscrowd"] = [2, -1, 0.5, "no", [], "1"][dice.integers(6)]
    return json.dumps(doc).encode()


def _other_text(doc: Document, dice: Dice) -> bytes:
    """Windows' encodings, marks and line ends; what says the same is harmless."""
    encoding = str(dice.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
    return json.dumps(doc, indent=int(dice.integers(4))).replace("\n", "\r\n").encode(encoding)


def _more_than_needed(doc: Document, dice: Dice) -> bytes:
    """Fields of other tools, in another order: harmless."""
    _entry(doc, dice)["attributes"] = {"occluded": False, "score": 0.5}
    doc["annotations"] = [dict(reversed(list(entry.items()))) for entry in doc["annotations"]]
    return json.dumps({"licenses": [], **dict(reversed(list(doc.items())))}).encode()


def _deep(doc: Document, dice: Dice) -> bytes:
    depth = int(dice.choice([100, 900, 100_000]))
    return _with_text(doc, _entry(doc, dice), "segmentation", "[" * depth + "]" * depth)


def _section_gone(doc: Document, dice: Dice) -> bytes:
    section = str(dice.choice(["images", "annotations"]))
    doc[section] = [None, {}, "x", 7, [None], [[]]][dice.integers(6)]
    return json.dumps(doc).encode()


DAMAGES: tuple[Callable[[Document, Dice], bytes], ...] = (
    _cut, _byte_lost, _zeros, _odd_value, _odd_part, _fraction, _not_above_zero, _no_box, _field_gone, _named_twice,
    _same_id, _unknown_image, _wrong_count, _wrong_visibility, _far_outside, _other_skeleton, _strange_crowd,
    _other_text, _more_than_needed, _deep, _section_gone)


def _with_text(doc: Document, place: Any, key: str | int, text: str) -> bytes:
    """The document with ``text`` as it is where a value was."""
    place[key] = "PLACE"
    return json.dumps(doc).replace('"PLACE"', text).encode()


def instances(labels: Labels) -> dict[int, Any]:
    """What training takes of each instance, by its number."""
    return {instance.id: (astuple(instance.image), instance.keypoints_xy.tolist(), instance.visibility.tolist(),
                          instance.bbox_xywh.tolist(), instance.area_px2) for instance in labels.instances}


def say_the_same(found: Labels, whole: Labels) -> bool:
    """The same images and instances, but for those that were left out and counted."""
    kept = instances(found)
    return (found.images == whole.images and all(one == instances(whole).get(name) for name, one in kept.items())
            and len(kept) + found.skipped == len(whole.instances) + whole.skipped)


def verdict(data: bytes, whole: bytes, folder: Path) -> str:
    """What became of a damaged file; ``whole`` is the one without damage."""
    path = folder / "labels.json"
    path.write_bytes(whole)
    expected = read_coco(path, SKELETON)
    path.write_bytes(data)
    try:
        found = read_coco(path, SKELETON)
    except DataError as error:
        return "lost" if "\n" in str(error) or str(path) not in str(error) else "survived"
    except Exception:  # noqa: BLE001 (a crash is what is counted here)
        return "lost"
    return "survived" if say_the_same(found, expected) else "silent"


def damaged_annotations(count: int, seed: int) -> Outcome:
    """``count`` files, the kinds of damage in turn, each at a place of its own."""
    verdicts = []
    with TemporaryDirectory() as folder:
        for number in range(count):
            dice = np.random.default_rng((seed, number))
            doc = document(dice)
            whole = json.dumps(doc).encode()
            verdicts.append(verdict(DAMAGES[number % len(DAMAGES)](doc, dice), whole, Path(folder)))
    return tally(FAULT, verdicts)
