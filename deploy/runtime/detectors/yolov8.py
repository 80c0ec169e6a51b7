"""YOLOv8 to v12: (1, 4 + classes, N), centre and size in pixels of the input; and (1, M, 6) of the end-to-end ones.

There is no objectness. Rows after the classes, such as the keypoints of pose models, (1, 56, N), are not looked at.
YOLOv10 and models exported with ``nms=True`` give left, top, right, bottom, score, class of at most M boxes, with
nothing left to suppress. Input by ``LetterBox`` of ``ultralytics/data/augment.py``, as that of YOLOv5.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.detectors import yolov5, yolox
from deploy.runtime.detectors.detections import Candidates
from deploy.runtime.detectors.layout import (
    STRIDES,
    STRIDES_OF_LARGE,
    Layout,
    Outputs,
    Seen,
    cell_count,
    column_of_class,
    from_centres,
    the_tensor,
)

STRIDES_OF_SMALL = (4, 8, 16, 32)  # the "P2" models
POSE_ROWS = 4 + 1 + 17 * 3  # a person with COCO's keypoints; as the rows of a detector it would be 52 classes


def fits(seen: Seen) -> bool:
    shape = the_tensor(seen.outputs).shape
    return (len(shape) == 3 and shape[0] == 1 and shape[1] >= 5
            and shape[2] in (cell_count(seen.input_hw, strides)
                             for strides in (STRIDES, STRIDES_OF_LARGE, STRIDES_OF_SMALL)))


def candidates(outputs: Outputs, _input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    columns = the_tensor(outputs)[0]
    classes = 1 if len(columns) == POSE_ROWS else len(columns) - 4
    scores = columns[4 + column_of_class(class_id, classes)]
    found = np.flatnonzero(scores >= score)
    return Candidates(from_centres(columns[:4, found].T.astype(np.float64)), scores[found])


def fits_end_to_end(seen: Seen) -> bool:
    """Six columns, at least; a pose model has its keypoints behind them."""
    shape = the_tensor(seen.outputs).shape
    return (len(shape) == 3 and shape[0] == 1 and shape[2] in (6, 6 + 17 * 3)
            and not (yolox.fits(seen) or yolov5.fits(seen) or fits(seen)))


def end_to_end_candidates(outputs: Outputs, _input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    rows = the_tensor(outputs)[0]
    found = rows[(rows[:, 4] >= score) & (rows[:, 5] == class_id)]
    return Candidates(found[:, :4], found[:, 4])


YOLOV8 = Layout("(1, 4 + classes, cells), also of YOLOv9, v11, v12 and of pose models", yolov5.LETTERBOX, 0.45, fits,
                candidates)
YOLO_END_TO_END = Layout("(1, boxes, 6), also of YOLOv10", yolov5.LETTERBOX, None, fits_end_to_end,
                         end_to_end_candidates)
