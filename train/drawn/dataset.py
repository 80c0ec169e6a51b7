"""Drawn pictures as a COCO keypoints folder. Knows files, seeds and counts, not what a picture shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from edgekp.atomic import write_file
from edgekp.recipe import Drawn
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17, IBUG68, Skeleton
from train.drawn.faces import COMPANY_ODDS, draw_faces
from train.drawn.people import CROWD_ODDS, draw_people
from train.drawn.scene import Drawing, Labelled

SPLITS = ("train", "val")
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Subject:
    """What is drawn.

    Attributes:
        odds: how often a picture shows 1, 2, ... of them.
    """

    category: str
    skeleton: Skeleton
    odds: tuple[float, ...]
    draw: Callable[[np.random.Generator, int], Drawing]


SUBJECTS = {"people": Subject("person", COCO17, CROWD_ODDS, draw_people),
            "faces": Subject("face", IBUG68, COMPANY_ODDS, draw_faces)}


def write_dataset(folder: Path, drawn: Drawn) -> None:
    """Write train.json, val.json and images/{train,val}/NNNNNN.jpg with exactly the instances asked for.

    Picture i of a split depends on the seed, the split and i alone; only the last one is cut short to fit the number.
    """
    subject = SUBJECTS[drawn.subject]
    for split in SPLITS:
        document = _empty_document(subject)
        pictures = folder / "images" / split
        pictures.mkdir(parents=True, exist_ok=True)
        wanted = getattr(drawn, split)
        with tqdm(total=wanted, desc=f"draw {drawn.subject} {split}", unit="instance") as progress:
            for index, drawing in enumerate(_drawings(subject, drawn.seed, split, wanted)):
                name = f"{index:06d}.jpg"
                (pictures / name).write_bytes(_jpeg(drawing.image))
                _append(document, f"images/{split}/{name}", drawing)
                progress.update(len(drawing.subjects))
        write_file(folder / f"{split}.json", json.dumps(document))


def _drawings(subject: Subject, seed: int, split: str, wanted: int) -> Iterator[Drawing]:
    index = 0
    while wanted > 0:
        rng = np.random.default_rng([seed, SPLITS.index(split), index])
        count = min(1 + int(rng.choice(len(subject.odds), p=subject.odds)), wanted)
        yield subject.draw(rng, count)
        wanted, index = wanted - count, index + 1


def _jpeg(image: Image) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "OpenCV encodes every 8-bit picture as JPEG"
    return data.tobytes()


def _empty_document(subject: Subject) -> dict[str, list[dict[str, Any]]]:
    limbs = [[a + 1, b + 1] for a, b in subject.skeleton.limbs]  # COCO counts keypoints from 1
    category = {"id": 1, "name": subject.category, "keypoints": list(subject.skeleton.keypoints), "skeleton": limbs}
    return {"images": [], "annotations": [], "categories": [category]}


def _append(document: dict[str, list[dict[str, Any]]], file_name: str, drawing: Drawing) -> None:
    height, width = drawing.image.shape[:2]
    image_id = len(document["images"]) + 1
    document["images"].append({"id": image_id, "file_name": file_name, "width": width, "height": height})
    for labelled in drawing.subjects:
        annotation = {"id": len(document["annotations"]) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
        document["annotations"].append(annotation | _fields(labelled))


def _fields(labelled: Labelled) -> dict[str, Any]:
    triplets = np.column_stack([labelled.keypoints_xy, labelled.visibility])
    return {"keypoints": _rounded(triplets), "num_keypoints": int((labelled.visibility > 0).sum()),
            "bbox": _rounded(labelled.bbox_xywh), "area": round(labelled.area_px2, 2)}


def _rounded(values: Float) -> list[float]:
    """Flat, with two decimals; whole numbers without a point."""
    return [int(v) if v == int(v) else v for v in np.round(values, 2).ravel().tolist()]
