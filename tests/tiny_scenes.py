"""Tiny scenes for the tests of bottom-up training: pictures of one to three figures in many colours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgekp.coco import Labels, read_coco
from edgekp.coco_scenes import read_scenes
from edgekp.contract import SceneContract
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Model, Recipe
from edgekp.sample import Float, Scene
from edgekp.skeletons import COCO17, coco_from_openpose
from tests import tiny
from tests.edgekp.scenes import FIGURE

IMAGE_HW = (120, 160)
INPUT_HW = (96, 128)  # as wide as the image, so that the whole of it fills the input
FIGURE_PX = 90
COLORS, DOTS = (np.random.default_rng(5).integers(60, 256, (count, 3)).tolist()
                for count in (len(COCO17.limbs), len(COCO17)))
MODEL = Model("hrnet_lite", options={"width": 16, "branches": 2, "blocks": 1, "modules": 1},
              head_options={"channels": 32})


def recipe(**train: Any) -> Recipe:
    """The tiny recipe for whole scenes, over ``write_scenes``'s files train.json and val.json."""
    of_people = tiny.recipe(loss="openpose", **train)
    return replace(of_people, input=InputSpec(INPUT_HW, padding=1.0), model=MODEL,
                   codec=CodecChoice("openpose", {"stride": 4, "sigma": 4.0}))


def contract() -> SceneContract:
    found = recipe().contract()
    assert isinstance(found, SceneContract)
    return found


def figures(people: int, rng: np.random.Generator) -> Float:
    """(P, 17, 2) upright figures side by side, image pixels."""
    jitter = rng.normal(0, 0.02, (people, len(FIGURE), 2))
    xy = FIGURE_PX * (FIGURE + jitter)
    columns = (np.arange(people) + 0.5) * IMAGE_HW[1] / people + rng.uniform(-4, 4, people)
    xy += np.stack([columns, rng.uniform(14, 18, people)], -1)[:, None]
    return coco_from_openpose(xy, np.ones(xy.shape[:2]))[0]


def write_scenes(folder: Path, name: str, counts: Sequence[int], seed: int = 0,
                 others: Sequence[dict[str, Any]] = ()) -> Path:
    """A picture for each count, with so many people; ``others`` are further annotations, such as crowds."""
    rng = np.random.default_rng([seed, *counts])
    images, annotations = [], []
    for image_id, count in enumerate(counts, 1):
        picture = rng.integers(0, 40, (*IMAGE_HW, 3), dtype=np.uint8)
        for xy in figures(count, rng):
            draw(picture, xy)
            annotations.append(annotation(len(annotations) + 1, image_id, xy))
        file_name = f"{name}-{image_id}.png"
        cv2.imwrite(str(folder / file_name), picture)
        images.append({"id": image_id, "file_name": file_name, "width": IMAGE_HW[1], "height": IMAGE_HW[0]})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": images, "annotations": [*annotations, *others], "categories": [category]}))
    return path


def draw(picture: Float, keypoints_xy: Float) -> None:
    points = np.rint(keypoints_xy).astype(int).tolist()
    for (a, b), color in zip(COCO17.limbs, COLORS, strict=True):
        cv2.line(picture, points[a], points[b], color, 2)
    for point, color in zip(points, DOTS, strict=True):
        cv2.circle(picture, point, 3, color, -1)


def annotation(number: int, image_id: int, keypoints_xy: Float) -> dict[str, Any]:
    low, high = keypoints_xy.min(0) - 5, keypoints_xy.max(0) + 5
    triplets = np.column_stack([keypoints_xy, np.full(len(keypoints_xy), 2)])
    return {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": 2000.0,
            "keypoints": triplets.ravel().tolist(), "bbox": [*low.tolist(), *(high - low).tolist()]}


def unlabelled(number: int, image_id: int, bbox_xywh: Sequence[float], crowd: bool = False) -> dict[str, Any]:
    """Somebody whose keypoints nobody labelled."""
    return {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": int(crowd), "area": 400.0,
            "keypoints": [0] * 3 * len(COCO17), "bbox": list(bbox_xywh)}


def labels(folder: Path, counts: Sequence[int], **more: Any) -> Labels:
    return read_coco(write_scenes(folder, "set", counts, **more), COCO17)


def scenes(folder: Path, counts: Sequence[int], **more: Any) -> tuple[Scene, ...]:
    """``write_scenes``, read back."""
    return read_scenes(labels(folder, counts, **more))
