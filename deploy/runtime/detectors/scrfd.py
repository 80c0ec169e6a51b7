"""SCRFD, InsightFace's face detector: for each of three strides scores (N, 1), then distances (N, 4), maybe keypoints.

``python-package/insightface/model_zoo/scrfd.py``: two rows a cell; from the cell's corner, cell * stride, the
distances to left, top, right, bottom in strides. Input: RGB, padded with 0, then
(pixel - 127.5) / 128; the picture is in the top left corner.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.detectors.detections import Candidates
from deploy.runtime.detectors.layout import STRIDES, Layout, Outputs, Seen, cell_count, column_of_class, grid
from deploy.runtime.detectors.letterbox import Letterbox
from edgekp.sample import Float

LETTERBOX = Letterbox("RGB", mean=(127.5, 127.5, 127.5), std=(128.0, 128.0, 128.0), pad_value=0)
ROWS_A_CELL = 2


def fits(seen: Seen) -> bool:
    """By position, as their names are numbers. A batch of 1 in front is there or not, by the export."""
    rows = [ROWS_A_CELL * cell_count(seen.input_hw, (stride,)) for stride in STRIDES]
    shapes = [array.shape[-2:] for array in seen.outputs.values()]
    return (len(shapes) in (6, 9) and shapes[:6] == [(n, 1) for n in rows] + [(n, 4) for n in rows])


def candidates(outputs: Outputs, input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    column_of_class(class_id, 1)
    arrays = list(outputs.values())
    scores = _joined(arrays[:3], 1)[:, 0]
    found = np.flatnonzero(scores >= score)
    cells, stride_px = grid(input_hw, STRIDES, ROWS_A_CELL)
    distances = _joined(arrays[3:6], 4)[found].astype(np.float64)
    corners = np.concatenate([cells[found] - distances[:, :2], cells[found] + distances[:, 2:]], axis=1)
    return Candidates(corners * stride_px[found], scores[found])


def _joined(arrays: list[Float], width: int) -> Float:
    return np.concatenate([array.reshape(-1, width) for array in arrays])


SCRFD = Layout("3 x scores (N, 1), 3 x distances (N, 4), maybe 3 x keypoints, faces", LETTERBOX, 0.4, fits, candidates)
