"""Outputs of detectors of every family: two bytes say which and how many classes, the rest are its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.runtime.detectors.detector import detections
from deploy.runtime.detectors.layout import STRIDES, Outputs, Seen, cell_count
from deploy.runtime.detectors.layouts import LAYOUTS, recognise
from edgekp.errors import ArtifactError
from fuzz.target import Read, Target

INPUT_HW, IMAGE_HW = (64, 64), (48, 90)
CELLS = [cell_count(INPUT_HW, (stride,)) for stride in STRIDES]
NAMES = sorted(LAYOUTS)


def shapes(name: str, many: int) -> dict[str, tuple[int, ...]]:
    """Of a layout's outputs, and of some that only look like it."""
    cells = sum(CELLS)
    if name == "yunet":
        return {f"{kind}_{stride}": (1, rows, width) for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4))
                for stride, rows in zip(STRIDES, CELLS, strict=True)}
    if name == "scrfd":
        return {f"{width}-{rows}": (2 * rows, width) for width in (1, 4) for rows in CELLS}
    if name in ("rtmdet", "yolox-mmdeploy"):
        return {"dets": (1, many, 5), "labels": (1, many)}
    rows = {"yolov8": (1, 4 + many, cells), "yolov5": (1, 3 * cells, 5 + many), "yolo-end2end": (1, many, 6)}
    return {"output": rows.get(name, (1, cells, 5 + many))}


def reader(_folder: Path) -> Read:
    def read(data: bytes) -> None:
        if len(data) < 6:
            return
        name, many = NAMES[data[0] % len(NAMES)], data[1]
        numbers = np.frombuffer(data[2:2 + (len(data) - 2) // 4 * 4], np.float32)
        outputs: Outputs = {key: np.resize(numbers, shape) for key, shape in shapes(name, many).items()}
        seen = Seen(outputs, INPUT_HW, frozenset({"Conv"}))
        for wanted in ("auto", name):
            try:
                _decode(recognise(seen, wanted), outputs)
            except ArtifactError:
                continue
    return read


def _decode(name: str, outputs: Outputs) -> None:
    layout = LAYOUTS[name]
    for class_id in (0, 1):
        found = detections(layout, outputs, layout.letterbox.place(IMAGE_HW, INPUT_HW), INPUT_HW, class_id, 0.4)
        assert np.isfinite(found.boxes_xywh).all(), "boxes that are no numbers"
        assert np.isfinite(found.scores).all(), "scores that are no numbers"
        assert (found.boxes_xywh[:, 2:] > 0).all(), "empty boxes"
        assert (np.diff(found.scores) <= 0).all(), "not the best first"


TARGET = Target(tuple(bytes([number, 3]) + np.array([9.5, 8.0, 30.0, 20.0, 0.9, 0.8, 0.1], np.float32).tobytes()
                      for number in range(len(NAMES))), reader,
                (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", b"\0\0\x80\x3f",
                 b"\x01\0\0\0"))
