"""The families of detectors by name, and which of them a file is of."""

from __future__ import annotations

from deploy.runtime.detectors.layout import Seen
from deploy.runtime.detectors.mmdeploy import RTMDET, YOLOX_MMDEPLOY
from deploy.runtime.detectors.scrfd import SCRFD
from deploy.runtime.detectors.yolov5 import YOLOV5, YOLOV6
from deploy.runtime.detectors.yolov8 import YOLO_END_TO_END, YOLOV8
from deploy.runtime.detectors.yolox import YOLOX, YOLOX_DECODED
from deploy.runtime.detectors.yunet import YUNET
from edgekp.errors import ArtifactError, unknown_name

LAYOUTS = {
    "yolox": YOLOX,
    "yolox-decoded": YOLOX_DECODED,
    "yolox-mmdeploy": YOLOX_MMDEPLOY,
    "yolov5": YOLOV5,
    "yolov6": YOLOV6,
    "yolov8": YOLOV8,
    "yolo-end2end": YOLO_END_TO_END,
    "rtmdet": RTMDET,
    "yunet": YUNET,
    "scrfd": SCRFD,
}


def check_layout_name(name: str) -> None:
    if name not in ("auto", *LAYOUTS):
        raise ArtifactError(unknown_name("layout of a detector", name, ["auto", *LAYOUTS]))


def recognise(seen: Seen, name: str) -> str:
    """The name of the layout of a file, which has to be ``name`` unless that is ``auto``."""
    fitting = [known for known, layout in LAYOUTS.items() if layout.fits(seen)]
    if name in fitting:
        return name
    if name != "auto":
        raise ArtifactError(f"outputs {_described(seen)}, but layout '{name}' has {LAYOUTS[name].looks}"
                            + (f"; fitting: {', '.join(fitting)}" if fitting else f"; {_known()}"))
    told = [known for known in fitting if LAYOUTS[known].told_by(seen)]
    if len(told) != 1:
        which = f"which {' and '.join(told)} both have; say which it is" if told else f"which no layout has; {_known()}"
        raise ArtifactError(f"outputs {_described(seen)}, {which}")
    return told[0]


def _described(seen: Seen) -> str:
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in seen.outputs.items())
    return f"{shapes} for an input of {seen.input_hw[1]}x{seen.input_hw[0]}"


def _known() -> str:
    return "known: " + "; ".join(f"{name}: {layout.looks}" for name, layout in LAYOUTS.items())
