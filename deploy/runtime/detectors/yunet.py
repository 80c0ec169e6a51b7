"""YuNet, the face detector of OpenCV's zoo, in the form of 2023: ``cls_8`` to ``kps_32``, twelve outputs.

A row for each cell (``modules/objdetect/src/face_detect.cpp`` of OpenCV): centre = (cell + output) * stride, size =
exp(output) * stride, score = sqrt(class * objectness), both first cut to 0..1. Input: BGR, 0..255, padded on the
right and below with 0. OpenCV never resizes the picture; where the file fixes its input, as the zoo's do, it has to be.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.detectors.detections import Candidates
from deploy.runtime.detectors.layout import STRIDES, Layout, Outputs, Seen, cell_count, column_of_class, from_cells
from deploy.runtime.detectors.letterbox import Letterbox
from edgekp.sample import Float

WIDTHS = {"cls": 1, "obj": 1, "bbox": 4}


def fits(seen: Seen) -> bool:
    return all(f"{kind}_{stride}" in seen.outputs
               and seen.outputs[f"{kind}_{stride}"].size == width * cell_count(seen.input_hw, (stride,))
               for kind, width in WIDTHS.items() for stride in STRIDES)


def of_all_strides(outputs: Outputs, kind: str) -> Float:
    return np.concatenate([outputs[f"{kind}_{stride}"].reshape(-1, WIDTHS[kind]) for stride in STRIDES])


def candidates(outputs: Outputs, input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    column_of_class(class_id, 1)
    likely = np.clip(of_all_strides(outputs, "cls")[:, 0], 0, 1) * np.clip(of_all_strides(outputs, "obj")[:, 0], 0, 1)
    scores = np.sqrt(likely)
    found = np.flatnonzero(scores >= score)
    said = of_all_strides(outputs, "bbox")[found]
    return Candidates(from_cells(said, found, input_hw, STRIDES), scores[found])


YUNET = Layout("cls_8 ... bbox_32, faces", Letterbox("BGR", pad_value=0), 0.3, fits, candidates)
