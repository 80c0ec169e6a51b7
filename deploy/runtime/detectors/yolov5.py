"""YOLOv5, v6 and v7: (1, N, 5 + classes), centre and size in pixels of the input, objectness, classes.

v5 and v7 have three rows a cell, one for each anchor; v6 has one, and an objectness of 1 (``effidehead.py``). Input by
``letterbox`` of ``utils/augmentations.py`` in ultralytics/yolov5: RGB, 0..1, in the middle, padded with 114.
"""

from __future__ import annotations

from deploy.runtime.detectors import yolox
from deploy.runtime.detectors.layout import STRIDES, STRIDES_OF_LARGE, Layout, Seen, cell_count, the_tensor
from deploy.runtime.detectors.letterbox import Letterbox

LETTERBOX = Letterbox("RGB", std=(255.0, 255.0, 255.0), centred=True, rounds=round)
ANCHORS = 3


def fits(seen: Seen) -> bool:
    shape = the_tensor(seen.outputs).shape
    return (len(shape) == 3 and shape[0] == 1 and shape[2] >= 6
            and shape[1] in (ANCHORS * cell_count(seen.input_hw, STRIDES),
                             ANCHORS * cell_count(seen.input_hw, STRIDES_OF_LARGE)))


YOLOV5 = Layout("(1, 3 x cells, 5 + classes), also of YOLOv7", LETTERBOX, 0.45, fits, yolox.decoded_candidates)
YOLOV6 = Layout("(1, cells, 5 + classes), objectness 1", LETTERBOX, 0.45, yolox.fits, yolox.decoded_candidates,
                lambda seen: yolox.is_decoded(seen) and not yolox.has_objectness(seen))
