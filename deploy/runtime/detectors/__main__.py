"""Draws what a detector finds in a picture: python -m deploy.runtime.detectors FILE IMAGE --out PNG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from deploy.runtime.detectors.detections import Detections
from deploy.runtime.detectors.detector import open_detector
from deploy.runtime.detectors.layouts import LAYOUTS
from edgekp import cli
from edgekp.atomic import write_file
from edgekp.preprocess import read_image
from edgekp.printable import printable
from edgekp.sample import Image

BOX_COLOR = (0, 200, 255)


def parser() -> argparse.ArgumentParser:
    found = cli.Parser(prog="python -m deploy.runtime.detectors",
                                    description="Say of which family a detector is, and what it finds in a picture.")
    found.add_argument("model", type=Path, help="ONNX file of a detector")
    found.add_argument("image", type=Path)
    found.add_argument("--out", type=Path, metavar="PNG", help="write the picture with the boxes")
    found.add_argument("--layout", choices=["auto", *LAYOUTS], default="auto", help="default: %(default)s")
    found.add_argument("--class-id", type=int, default=0, help="default: %(default)s, the person of COCO")
    found.add_argument("--score", type=float, default=0.4, help="the least of a box (default: %(default)s)")
    cli.add_debug(found)
    return found


def main(arguments: argparse.Namespace) -> int:
    detector = open_detector(arguments.model, layout=arguments.layout, class_id=arguments.class_id,
                             score=arguments.score)
    bgr = np.ascontiguousarray(read_image(arguments.image)[..., ::-1])
    found = detector.detect(bgr)
    detector.close()
    print(printable(detector.name))
    for (x, y, w, h), score in zip(found.boxes_xywh, found.scores, strict=True):
        print(f"score {score:.3f}   x {x:7.1f}   y {y:7.1f}   width {w:7.1f}   height {h:7.1f} px")
    if arguments.out:
        write_file(arguments.out, cv2.imencode(".png", drawn(bgr, found))[1].tobytes())
    return 0


def drawn(bgr: Image, found: Detections) -> Image:
    """A copy of the picture with the boxes on it: a box's outermost pixels are coloured."""
    picture: Image = bgr.copy()
    width = max(1, round(max(bgr.shape) / 400))
    for x, y, w, h in found.boxes_xywh:
        cv2.rectangle(picture, (round(x), round(y)), (round(x + w - 1), round(y + h - 1)), BOX_COLOR, width)
    return picture


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
