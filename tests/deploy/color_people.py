"""A world in which a model is never wrong: people of 17 coloured spots, and an ONNX model that finds each color.

What the camera loop does with such a model can be held against what was drawn.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.export.float16 import in_float16
from edgekp.artifact import write_artifact
from edgekp.codecs import Heatmap
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17

INPUT_HW = (256, 256)
CONTRACT = Contract(InputSpec(INPUT_HW, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)), Heatmap(INPUT_HW), COCO17)
BRIGHTER_THAN = 118  # mean over the channels of all that is drawn
COLORS_RGB = np.array([color for color in product((80, 165, 250), repeat=3)
                       if len(set(color)) > 1 and sum(color) > 3 * BRIGHTER_THAN][:17])
BODY = (130, 130, 130)
WIDTH = 0.12  # of a color's bell, where 1 is the whole range
STRIDE = 4
# A person of 1 x 1: x, y of each keypoint, no two of them near each other.
PERSON = np.array([
    [.5, .05], [.62, 0], [.38, 0], [.78, .06], [.22, .06], [.75, .22], [.25, .22], [.95, .36], [.05, .36], [1., .52],
    [0., .52], [.66, .55], [.34, .55], [.7, .77], [.3, .77], [.74, 1.], [.26, 1.]])


def person_at(x: float, y: float, height: float) -> Float:
    """(17, 2) keypoints of somebody whose upper left corner is there, half as wide as high."""
    return PERSON * (height / 2, height) + (x, y)


def picture(people: list[Float], hw: tuple[int, int], radius_px: int = 5) -> Image:
    """(H, W, 3) BGR with these (17, 2) keypoints, at whole pixels, as spots on a grey body."""
    bgr = np.zeros((*hw, 3), np.uint8)
    for keypoints_xy in people:
        cv2.fillConvexPoly(bgr, cv2.convexHull(keypoints_xy.round().astype(np.int32)), BODY)
        for (x, y), color in zip(keypoints_xy.round().astype(int).tolist(), COLORS_RGB.tolist(), strict=True):
            cv2.circle(bgr, (x, y), radius_px, color[::-1], -1)
    return bgr


def write_color_artifact(folder: Path) -> Path:
    """An artifact that gives, for each keypoint, how near every place is to the color of its spot."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(_model().SerializeToString())
    (folder / "model_fp16.onnx").write_bytes(in_float16(_model()).SerializeToString())
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx", "fp16_file": "model_fp16.onnx", "target": "cpu",
                                              "precision": "fp32"})
    return folder


def _model() -> onnx.ModelProto:
    """exp(-|color - spot|^2 / WIDTH^2), by one convolution over the channels and their squares."""
    spots = COLORS_RGB / 255
    weights = np.concatenate([2 * spots, -np.ones_like(spots)], 1)[:, :, None, None] / WIDTH**2
    constants = {"weights": weights, "bias": -(spots**2).sum(1) / WIDTH**2}
    nodes = [helper.make_node("Mul", ["input", "input"], ["squares"]),
             helper.make_node("Concat", ["input", "squares"], ["both"], axis=1),
             helper.make_node("Conv", ["both", "weights", "bias"], ["logs"]),
             helper.make_node("Exp", ["logs"], ["near"]),
             helper.make_node("AveragePool", ["near"], ["heatmaps"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2)]
    height, width = INPUT_HW
    shapes = {"input": ["batch", 3, height, width], "heatmaps": ["batch", 17, height // STRIDE, width // STRIDE]}
    source, said = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph(
        nodes, "colors", [source], [said],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
