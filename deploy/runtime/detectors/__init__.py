"""Person and face detectors from ONNX files of several families: boxes of a picture, whoever trained the network.

    detector = open_detector(Path("yolox_nano.onnx"))
    detector.detect(bgr).boxes_xywh

A family is a ``Layout``: a file with what its outputs mean and how its input is made, and a line in ``LAYOUTS``.
"""

from __future__ import annotations

from deploy.runtime.detectors.detections import Detections
from deploy.runtime.detectors.detector import Detector, open_detector
from deploy.runtime.detectors.layouts import LAYOUTS

__all__ = ["LAYOUTS", "Detections", "Detector", "open_detector"]
