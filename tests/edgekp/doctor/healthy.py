"""A small data set that nothing is wrong with: drawn people in front of blurred backgrounds, as COCO labels them."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgekp.codecs import build_codec
from edgekp.doctor.dataset import Plan
from edgekp.doctor.examine import examine
from edgekp.doctor.finding import Finding
from edgekp.doctor.reading import read_sets
from edgekp.preprocess import InputSpec
from edgekp.skeletons import COCO17, Skeleton

Document = dict[str, Any]
IMAGE_WH = (320, 240)
INPUT_HW = (256, 192)
PEOPLE = 14
BACK_VIEWS = 4  # every fourth person turns their back

# x from the body's axis to the person's left as seen from the front, y from the crown; heights of a person.
FIGURE = np.array([(0, .09), (.03, .06), (-.03, .06), (.06, .07), (-.06, .07), (.13, .2), (-.13, .2), (.17, .36),
                   (-.17, .36), (.2, .5), (-.2, .5), (.09, .52), (-.09, .52), (.1, .75), (-.1, .75), (.1, .96),
                   (-.1, .96)])
FACE, LEFT_WRIST = slice(0, 3), 9


@dataclass
class Case:
    """A data set on disk: ``train`` is its JSON, to be changed before it is written; ``val`` is another split."""

    folder: Path
    train: Document
    val: Document
    skeleton: Skeleton | None = COCO17
    codec: dict[str, Any] = field(default_factory=dict)
    input_hw: tuple[int, int] = INPUT_HW

    def examine(self, decode: bool = True) -> list[Finding]:
        """What the doctor says of both files."""
        paths = []
        for name in ("train", "val"):
            paths.append(self.folder / f"{name}.json")
            paths[-1].write_text(json.dumps(getattr(self, name)))
        plan = Plan(InputSpec(self.input_hw), build_codec("heatmap", self.input_hw, self.codec))
        return examine(read_sets(paths, skeleton=self.skeleton, plan=plan, decode=decode))

    def codes(self, decode: bool = True) -> set[str]:
        return {finding.fault.code for finding in self.examine(decode)}


def healthy(folder: Path) -> Case:
    """Draws the pictures."""
    return Case(folder, _split(folder, "train", PEOPLE, seed=1), _split(folder, "val", 3, seed=2))


def copy_of(case: Case, folder: Path) -> Case:
    """The same with files of its own; pictures are copied as links, so they are replaced, never written into."""
    for file in case.folder.glob("*.jpg"):
        (folder / file.name).hardlink_to(file)
    return Case(folder, copy.deepcopy(case.train), copy.deepcopy(case.val))


def _split(folder: Path, name: str, count: int, seed: int) -> Document:
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(1, count + 1):
        file = f"{name}-{number}.jpg"
        keypoints = _person(rng, is_back=number % BACK_VIEWS == 0)
        cv2.imwrite(str(folder / file), _picture(rng, keypoints))
        images.append({"id": number, "file_name": file, "width": IMAGE_WH[0], "height": IMAGE_WH[1]})
        annotations.append(annotation(number, number, keypoints))
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints),
                "skeleton": [[start + 1, end + 1] for start, end in COCO17.limbs],
                "flip_pairs": [list(pair) for pair in COCO17.flip_pairs]}
    return {"images": images, "annotations": annotations, "categories": [category]}


def annotation(identity: int, image: int, keypoints: np.ndarray) -> Document:
    """Everything that COCO says of a person, from (17, 3) keypoints."""
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    low, high = labelled.min(0) - 6, labelled.max(0) + 6
    box = np.round([*low, *(high - low)], 1).tolist()
    return {"id": identity, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": len(labelled),
            "keypoints": keypoints.ravel().tolist(), "bbox": box, "area": round(0.53 * box[2] * box[3], 1)}


def _person(rng: np.random.Generator, is_back: bool) -> np.ndarray:
    """(17, 3) keypoints of someone who stands somewhere in the picture, one of them hidden."""
    height, turn = rng.uniform(150, 190), -1 if is_back else 1
    figure = (FIGURE + rng.normal(0, 0.004, FIGURE.shape)) * (turn * height, height)
    places = figure + (rng.uniform(70, IMAGE_WH[0] - 70), rng.uniform(20, 40))
    keypoints = np.column_stack([places.round(1), np.full(len(places), 2)])
    keypoints[LEFT_WRIST, 2] = 1
    if is_back:
        keypoints[FACE] = 0
    return keypoints


def _picture(rng: np.random.Generator, keypoints: np.ndarray) -> np.ndarray:
    """A person of lines in front of a coarse pattern, which no two pictures share."""
    picture = cv2.resize(rng.integers(40, 200, (6, 8, 3), dtype=np.uint8), IMAGE_WH, interpolation=cv2.INTER_CUBIC)
    for start, end in COCO17.limbs:
        if keypoints[[start, end], 2].all():
            cv2.line(picture, *keypoints[[start, end], :2].astype(int).tolist(), (230, 230, 230), 3)
    return picture
