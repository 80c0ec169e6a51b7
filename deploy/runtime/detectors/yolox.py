"""YOLOX: (1, N, 5 + classes), a row for each cell: centre, size, how likely an object, how likely each class.

The official export leaves the decoding to the caller (``tools/export_onnx.py``, ``demo_postprocess`` of
``yolox/utils/demo_utils.py``): centre = (cell + output) * stride, size = exp(output) * stride. With its option
``--decode_in_inference`` that is done inside. Input by ``preproc`` of ``yolox/data/data_augment.py``: BGR, 0..255, in
the top left corner, padded with 114.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.detectors.detections import Candidates
from deploy.runtime.detectors.layout import (
    STRIDES,
    STRIDES_OF_LARGE,
    Layout,
    Outputs,
    Seen,
    cell_count,
    column_of_class,
    from_cells,
    from_centres,
    the_tensor,
)
from deploy.runtime.detectors.letterbox import Letterbox
from edgekp.sample import Float, Int

LETTERBOX = Letterbox("BGR")


def fits(seen: Seen) -> bool:
    """A row for each cell; also that of YOLOv6."""
    shape = the_tensor(seen.outputs).shape
    return (len(shape) == 3 and shape[0] == 1 and shape[2] >= 6
            and shape[1] in (cell_count(seen.input_hw, STRIDES), cell_count(seen.input_hw, STRIDES_OF_LARGE)))


def is_decoded(seen: Seen) -> bool:
    """Are the centres all over the input? Before decoding they are a few cells from their own, so near 0."""
    center_x = the_tensor(seen.outputs)[0, :, 0]
    return bool(np.median(np.abs(center_x)) > seen.input_hw[1] / 8)


def has_objectness(seen: Seen) -> bool:
    """YOLOv6 keeps the column and fills it with 1."""
    return not bool((the_tensor(seen.outputs)[0, :, 4] == 1).all())


def likely(rows: Float, class_id: int, score: float) -> tuple[Int, Float]:
    """Rows whose objectness times class reaches the score, and that product."""
    scores = rows[:, 4] * rows[:, 5 + column_of_class(class_id, rows.shape[1] - 5)]
    found = np.flatnonzero(scores >= score)
    return found, scores[found]


def raw_candidates(outputs: Outputs, input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    rows = the_tensor(outputs)[0]
    found, scores = likely(rows, class_id, score)
    strides = STRIDES if len(rows) == cell_count(input_hw, STRIDES) else STRIDES_OF_LARGE
    return Candidates(from_cells(rows[found, :4], found, input_hw, strides), scores)


def decoded_candidates(outputs: Outputs, _input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    rows = the_tensor(outputs)[0]
    found, scores = likely(rows, class_id, score)
    return Candidates(from_centres(rows[found, :4].astype(np.float64)), scores)


YOLOX = Layout("(1, cells, 5 + classes), not decoded", LETTERBOX, 0.45, fits, raw_candidates,
               lambda seen: not is_decoded(seen))
YOLOX_DECODED = Layout("(1, cells, 5 + classes), centres in pixels of the input", LETTERBOX, 0.45, fits,
                       decoded_candidates, lambda seen: is_decoded(seen) and has_objectness(seen))
