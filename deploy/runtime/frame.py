"""A picture of a camera, and what a model says of it. Knows no camera and no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgekp.sample import Float, Image, Prediction


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        bgr: (H, W, 3), as OpenCV reads it; nobody writes into it.
        number: 0 for the first that the source gave; those that were dropped count.
        time_s: when it was taken, by ``time.perf_counter``; of a video file the time that the file says.
        taken_s: when it had been read, by ``time.perf_counter``.
        waited_ms: how long reading and decoding it took.
    """

    bgr: Image
    number: int
    time_s: float
    taken_s: float
    waited_ms: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """The people of one frame in its pixels, and how long each part of the work took."""

    people: list[Prediction]
    pre_ms: float
    infer_ms: float
    decode_ms: float


class Estimator(Protocol):
    """From a frame to keypoints: crops, network and decoding, on the host or on a GPU.

    Attributes:
        needs_boxes: False for a model of whole scenes, which finds the people itself.
    """

    needs_boxes: bool

    def estimate(self, bgr: Image, boxes_xywh: Float) -> Estimate:
        """One person for each of (N, 4) boxes, in their order; N may be 0. Models of whole scenes are given none."""

    def close(self) -> None:
        """Give back what the model holds."""
