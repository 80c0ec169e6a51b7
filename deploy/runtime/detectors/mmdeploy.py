"""RTMDet and YOLOX as mmdeploy exports them: ``dets`` (1, N, 5), edges in the input and a score; ``labels`` (1, N).

Suppression is in the graph (``mmdeploy/codebase/mmdet/models/dense_heads/rtmdet_head.py``). The two differ in their
input alone: that of RTMDet is normalised (``configs/rtmdet`` of mmdetection: BGR, padded with 114 before that), that of
YOLOX is not. A YOLOX is told by its first operator: it cuts the picture into four with slices ("Focus").
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.detectors.detections import Candidates
from deploy.runtime.detectors.layout import Layout, Outputs, Seen
from deploy.runtime.detectors.letterbox import Letterbox


def half_up(side: float) -> int:
    """As ``rescale_size`` of mmcv rounds."""
    return int(side + 0.5)


def fits(seen: Seen) -> bool:
    dets, labels = seen.outputs.get("dets"), seen.outputs.get("labels")
    return (dets is not None and labels is not None and dets.ndim == 3 and dets.shape[0] == 1 and dets.shape[2] == 5
            and labels.shape == dets.shape[:2])


def begins_with_slices(seen: Seen) -> bool:
    return "Slice" in seen.readers


def candidates(outputs: Outputs, _input_hw: tuple[int, int], class_id: int, score: float) -> Candidates:
    dets, labels = outputs["dets"][0], outputs["labels"][0]
    found = dets[np.logical_and(dets[:, 4] >= score, labels == class_id)]
    return Candidates(found[:, :4], found[:, 4])


RTMDET = Layout("mmdeploy's dets (1, boxes, 5) and labels (1, boxes)", Letterbox(
    "BGR", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), rounds=half_up), None, fits, candidates,
    lambda seen: not begins_with_slices(seen))
YOLOX_MMDEPLOY = Layout("the same, of a YOLOX", Letterbox("BGR", rounds=half_up), None, fits, candidates,
                        begins_with_slices)
