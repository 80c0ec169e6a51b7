"""What seeds are made of: small pictures without pixels, annotations, artifact folders. Nothing is copied from data."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekp.artifact import write_artifact
from edgekp.coco import read_coco
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import DataError
from edgekp.importers.found import Reading
from edgekp.importers.to_coco import coco_document, default_box_factor
from edgekp.preprocess import InputSpec
from edgekp.sealed_json import SEAL, sealed
from edgekp.skeletons import SKELETONS, Skeleton
from fuzz.target import Read

WIDTH, HEIGHT = 64, 48
PICTURE = "a.png"
CONTRACT = Contract(InputSpec((32, 24)), build_codec("heatmap", (32, 24), {}), SKELETONS["coco17"])


def png_header(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """The head of a PNG up to its pixels, which is all that ``image_size`` reads."""
    return (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)
            + struct.pack(">I4s", 0, b"IDAT"))


def points(count: int) -> list[tuple[float, float]]:
    """Inside the picture, no two alike."""
    return [(10.0 + number % 8 * 5, 5.0 + number // 8 * 3) for number in range(count)]


def coco(skeleton: Skeleton = SKELETONS["coco17"]) -> dict[str, Any]:
    """A person, one hidden and one absent keypoint, and a crowd."""
    keypoints = [value for number, (x, y) in enumerate(points(len(skeleton)))
                 for value in ((0, 0, 0) if number == 0 else (x, y, 1 + number % 2))]
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": keypoints, "num_keypoints": len(skeleton) - 1,
              "bbox": [8.5, 4.0, 44.0, 30.0], "area": 700.0, "iscrowd": 0}
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "keypoints": [0] * 3 * len(skeleton), "num_keypoints": 0,
             "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1}
    return {"images": [{"id": 1, "file_name": PICTURE, "width": WIDTH, "height": HEIGHT}],
            "annotations": [person, crowd],
            "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints),
                            "skeleton": [[first + 1, second + 1] for first, second in skeleton.limbs]}]}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def resealed(data: bytes) -> bytes:
    """A JSON document with the digest that fits it, which anybody can compute; what is none, as it is."""
    try:
        return sealed({name: value for name, value in json.loads(data).items() if name != SEAL})
    except (ValueError, RecursionError, AttributeError):
        return data


def artifact_in(folder: Path) -> Path:
    """A folder with a manifest, golden vectors and a few bytes for a model."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"no model")
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx", "parameters": 7, "precision": "fp32",
                                              "target": "cpu"})
    return folder


def importer(skeleton: str, read: Callable[[Path, Skeleton], Reading], suffix: Callable[[bytes], str]
             ) -> Callable[[Path], Read]:
    """A reader for a foreign format; what it imports has to be COCO that ``read_coco`` takes."""
    def reader(folder: Path) -> Read:
        (folder / PICTURE).write_bytes(png_header())
        written = folder / "written" / "coco.json"
        written.parent.mkdir()

        def read_and_write(data: bytes) -> None:
            source, known = folder / f"a{suffix(data)}", SKELETONS[skeleton]
            source.write_bytes(data)
            reading = read(source, known)
            document = coco_document(reading, known, default_box_factor(known))
            written.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
            try:
                read_coco(written, known, reading.images)
            except DataError as error:
                raise AssertionError(f"import wrote what read_coco refuses: {error}") from error
        return read_and_write
    return reader
