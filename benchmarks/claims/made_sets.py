"""Label sets made from others: people in few pixels, people behind a table, faces with shaky labels.

Documents are COCO keypoints files as dictionaries. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgekp.preprocess import read_image
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17, IBUG68

Document = dict[str, Any]
Make = Callable[[Document, Path, Path, str], Document]  # (document, its pictures, folder for new ones, split)

SMALLER = 4  # times: people of 80 to 300 pixels become 20 to 75 tall, nearly all below COCO's 32 x 32 pixels
SHAKE = 0.15  # standard deviation of a shaky label along each axis, of the distance of the outer eye corners
SEEN_AT_LEAST = 5  # keypoints above the table
SHOULDERS, HIPS = ([COCO17.keypoints.index(f"{side}_{part}") for side in ("left", "right")]
                   for part in ("shoulder", "hip"))
OUTER_EYES = list(IBUG68.normaliser or ())
JPEG_QUALITY = 92


def make_small(document: Document, pictures: Path, folder: Path, split: str) -> Document:
    """Every picture at a quarter of its size; in training every other one, so that both sizes are learnt."""
    images = []
    for number, image in enumerate(document["images"]):
        pixels = read_image(pictures / image["file_name"])
        if split == "val" or number % 2:
            wh = image["width"] // SMALLER, image["height"] // SMALLER
            image |= {"width": wh[0], "height": wh[1]}
            cut = pixels[:wh[1] * SMALLER, :wh[0] * SMALLER]  # whole blocks, so that nothing is stretched
            pixels = np.asarray(cv2.resize(cut, wh, interpolation=cv2.INTER_AREA), np.uint8)
            for entry in document["annotations"]:
                if entry["image_id"] == image["id"]:
                    _shrink(entry)
        images.append(image | {"file_name": _write(folder, number, pixels)})
    return document | {"images": images}


def _shrink(entry: Document) -> None:
    """Half-pixel rule: a pixel's centre is a whole number, its left edge half a pixel before it."""
    keypoints = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
    labelled = keypoints[:, 2] > 0
    keypoints[labelled, :2] = (keypoints[labelled, :2] + 0.5) / SMALLER - 0.5
    entry.update(keypoints=keypoints.ravel().tolist(), bbox=[value / SMALLER for value in entry["bbox"]],
                 area=entry["area"] / SMALLER**2)


def cut_behind_a_table(document: Document, pictures: Path, folder: Path, split: str) -> Document:
    """One upright person a picture, from the hips down behind a table; the box is what is seen.

    Nobody knows where the hidden keypoints are, as they are out of sight: they are not labelled.
    """
    names = {image["id"]: image["file_name"] for image in document["images"]}
    images, annotations = [], []
    for number, entry in enumerate(document["annotations"]):
        keypoints = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        waist = _waist(keypoints)
        keypoints[keypoints[:, 1] >= waist] = 0
        if np.isnan(waist) or (keypoints[:, 2] > 0).sum() < SEEN_AT_LEAST:
            continue
        pixels = read_image(pictures / names[entry["image_id"]])
        other = document["images"][(number * 7 + 3) % len(document["images"])]
        annotations.append(_above(entry, keypoints, waist) | {"image_id": number + 1})
        images.append({"id": number + 1, "width": pixels.shape[1], "height": pixels.shape[0],
                       "file_name": _write(folder, number, _covered(pixels, waist, read_image(
                           pictures / other["file_name"])))})
    return document | {"images": images, "annotations": annotations}


def _waist(keypoints: Float) -> float:
    """The row between the hips; NaN unless shoulders and hips of somebody upright are labelled."""
    if not keypoints[SHOULDERS + HIPS, 2].all() or keypoints[SHOULDERS, 1].max() >= keypoints[HIPS, 1].min():
        return float("nan")
    return float(np.ceil(keypoints[HIPS, 1].mean()))


def _above(entry: Document, keypoints: Float, waist: float) -> Document:
    """The annotation of what is left above the row ``waist``; the area shrinks with the box."""
    x, y, w, h = entry["bbox"]
    seen_h = max(min(waist - y, h), 1.0)
    return entry | {"keypoints": keypoints.ravel().tolist(), "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                    "bbox": [x, y, w, seen_h], "area": entry["area"] * seen_h / h}


def _covered(pixels: Image, waist: float, cover: Image) -> Image:
    """Everything from the row ``waist`` on has the colours of another picture, but none of its people."""
    top = min(max(int(waist), 0), len(pixels))
    colors = cv2.resize(cover, (8, 6), interpolation=cv2.INTER_AREA)
    return np.concatenate([pixels[:top], cv2.resize(colors, pixels.shape[1::-1])[top:].astype(np.uint8)])


def shake(document: Document, pictures: Path, folder: Path, split: str) -> Document:
    """The same pictures, and labels with a normally distributed error, as of annotators who do not agree."""
    rng = np.random.default_rng(0)
    sizes = {image["id"]: (image["width"] - 1, image["height"] - 1) for image in document["images"]}
    for entry in document["annotations"]:
        keypoints = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        outer = np.linalg.norm(np.subtract(*keypoints[OUTER_EYES, :2]))
        moved = keypoints[:, :2] + rng.normal(0, SHAKE * outer, (len(keypoints), 2))
        keypoints[:, :2] = np.clip(moved, 0, sizes[entry["image_id"]])
        entry["keypoints"] = keypoints.ravel().tolist()
    return document


def _write(folder: Path, number: int, pixels: Image) -> str:
    """The name of the written picture."""
    name = f"{number:06d}.jpg"
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "OpenCV encodes every 8-bit picture as JPEG"
    (folder / name).write_bytes(data.tobytes())
    return name
