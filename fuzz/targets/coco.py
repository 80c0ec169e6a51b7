"""COCO keypoint files, for training, for whole scenes and as the ground truth of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekp.coco import read_coco, skeleton_of
from edgekp.coco_scenes import read_scenes
from edgekp.errors import EdgekpError
from edgekp.skeletons import COCO17
from eval import ground_truth
from fuzz.drawn import as_json, coco
from fuzz.target import Read, Target


def reader(folder: Path) -> Read:
    path = folder / "labels.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        readers: tuple[Callable[[], object], ...] = (
            lambda: skeleton_of(path), lambda: ground_truth.skeleton_of(path, None),
            lambda: ground_truth.read_ground_truth(path, COCO17))
        for one in readers:
            try:
                one()
            except EdgekpError:
                continue
        read_scenes(read_coco(path, COCO17))
    return read


TARGET = Target((as_json(coco()), as_json(coco() | {"categories": []}), b'{"images": [], "annotations": []}'), reader,
                (b'"keypoints"', b'"bbox"', b'"iscrowd"', b'"id"', b"1e999", b"NaN", b"[", b"{"))
