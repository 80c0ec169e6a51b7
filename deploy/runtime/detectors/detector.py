"""A detector from a file: opens it, finds out its family, and turns pictures into boxes. Knows no tracking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.runtime.detectors.detections import Detections, suppress
from deploy.runtime.detectors.layout import Layout, Outputs, Seen
from deploy.runtime.detectors.layouts import LAYOUTS, check_layout_name, recognise
from deploy.runtime.detectors.letterbox import FREE_LONGEST, Placement, input_size
from deploy.runtime.detectors.onnx_header import FLOAT32, OnnxHeader, read_onnx_header
from deploy.runtime.session import Session
from edgekp.errors import ArtifactError
from edgekp.plain_file import read_plain
from edgekp.sample import Float, Image
from edgekp.trial import survive

LARGEST_BYTES = 1 << 30
LARGEST_INPUT_PX = 4096


@dataclass(frozen=True)
class Detector:
    """An opened detector of one class.

    Attributes:
        name: file, layout and input, for people.
        layout: name of its family, in ``LAYOUTS``.
        free_hw: height and width of the input, None where any goes.
        score: 0..1, the least that a box must have.
    """

    name: str
    layout: str
    session: Session
    free_hw: tuple[int | None, int | None]
    class_id: int
    score: float

    def detect(self, bgr: Image) -> Detections:
        """The boxes in a picture (H, W, 3), the best first."""
        layout = LAYOUTS[self.layout]
        inputs, at = layout.letterbox.fill(bgr, input_size(self.free_hw, (bgr.shape[0], bgr.shape[1])))
        return detections(layout, run(self.session, inputs, self.name), at, (inputs.shape[2], inputs.shape[3]),
                          self.class_id, self.score)

    def close(self) -> None:
        self.session.close()


def open_detector(path: Path, *, layout: str = "auto", class_id: int = 0, score: float = 0.4,
                  threads: int = 1) -> Detector:
    """The detector of an ONNX file, in ONNX Runtime or, where that is missing, in OpenCV.

    Args:
        layout: a name in ``LAYOUTS``; ``auto`` finds it out from a first run over an input without a picture.
        class_id: 0 is the person with COCO's classes, and the face of face detectors.
        threads: of ONNX Runtime; OpenCV has one number for all of a process.

    Raises:
        ArtifactError: The file is no ONNX model, one that ends the runtime, none of a known layout, or has no such
            class.
    """
    check_layout_name(layout)
    try:
        model = read_model(path)
        free_hw, _ = size_and_name_of_input(read_onnx_header(model))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    survive("deploy.runtime.detectors.trial", model, str(path))
    session, runtime, seen = first_run(model, str(path), threads)
    h, w = seen.input_hw
    try:
        found = recognise(seen, layout)
        at = LAYOUTS[found].letterbox.place((h, w), (h, w))
        detections(LAYOUTS[found], seen.outputs, at, (h, w), class_id, score)  # says so if there is no such class
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    size = "x".join(str(size) if size else "free" for size in free_hw[::-1])
    return Detector(f"{path.name} ({found}, {size}, {runtime})", found, session, free_hw, class_id, score)


def first_run(model: bytes, where: str, threads: int = 1) -> tuple[Session, str, Seen]:
    """The model opened, the runtime's name, and what comes of an input without a picture."""
    header = read_onnx_header(model)
    free_hw, input_name = size_and_name_of_input(header)
    session, runtime = open_session(model, where, header.outputs, threads)
    h, w = (size or FREE_LONGEST for size in free_hw)
    outputs = run(session, np.zeros((1, 3, h, w), np.float32), where)
    return session, runtime, Seen(outputs, (h, w), header.readers[input_name])


def read_model(path: Path) -> bytes:
    try:
        return read_plain(path, LARGEST_BYTES)
    except OSError as error:
        raise ArtifactError(f"cannot read the detector ({error.strerror})") from error


def size_and_name_of_input(header: OnnxHeader) -> tuple[tuple[int | None, int | None], str]:
    """Height and width of the one input, None where any goes, and its name."""
    shapes = [(name, shape) for name, shape in header.inputs.items()
              if len(shape) == 4 and shape[0] in (1, None) and shape[1] in (3, None)
              and header.element_types[name] == FLOAT32 and max(shape[2] or 0, shape[3] or 0) <= LARGEST_INPUT_PX]
    if len(header.inputs) != 1 or len(shapes) != 1 or not header.outputs:
        found = ", ".join(f"{name} {[size or 'free' for size in shape]} of type {header.element_types[name]}"
                          for name, shape in header.inputs.items())
        raise ArtifactError(f"inputs: {found or 'none'}; {len(header.outputs)} outputs; expected one float32 input "
                            f"[1, 3, h, w] of at most {LARGEST_INPUT_PX} pixels and some output; "
                            "export with a batch of 1")
    name, shape = shapes[0]
    return (shape[2], shape[3]), name


def open_session(model: bytes, where: str, outputs: tuple[str, ...], threads: int) -> tuple[Session, str]:
    """The model in ONNX Runtime, or in OpenCV where that is not installed, and which of the two."""
    try:
        from deploy.runtime.onnx_session import OnnxSession
    except ModuleNotFoundError:
        from deploy.runtime.detectors.dnn_session import DnnSession
        return DnnSession(model, outputs, where), "OpenCV"
    return OnnxSession(model, outputs, where, threads), "ONNX Runtime"


def run(session: Session, inputs: Float, where: str) -> Outputs:
    try:
        return {name: np.asarray(array) for name, array in session.infer(inputs).items()}
    except Exception as error:  # the runtimes raise classes of their own, which share no base but Exception
        raise ArtifactError(f"{where}: does not run on an input of {list(inputs.shape)} ({error}); "
                            "export it for that size") from error


def detections(layout: Layout, outputs: Outputs, at: Placement, input_hw: tuple[int, int], class_id: int,
               score: float) -> Detections:
    """From a network's outputs to boxes in the image; what lies wholly outside of it is dropped."""
    with np.errstate(over="ignore", invalid="ignore"):  # a network may say anything; best_first drops what overflows
        best = layout.candidates(outputs, input_hw, class_id, score).best_first()
    corners, scores = best.corners_xyxy, best.scores
    if layout.most_overlap is not None:
        kept = suppress(corners, layout.most_overlap)
        corners, scores = corners[kept], scores[kept]
    image_h, image_w = at.image_hw
    clipped = np.clip(at.to_image(corners), 0, [image_w, image_h] * 2)
    boxes_xywh = np.concatenate([clipped[:, :2], clipped[:, 2:] - clipped[:, :2]], axis=1)
    inside = (boxes_xywh[:, 2:] > 0).all(axis=1)
    return Detections(boxes_xywh[inside], scores[inside])
