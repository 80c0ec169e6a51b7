"""A small ONNX detector that really detects: bright figures before a darker ground, a box each. Nothing is trained.

A pixel knows its own place. In each cell of 8 x 8 pixels the bright ones leave their outermost places, and cells that
touch take over the larger of each other's, step by step, until all cells of a figure agree on its edges: so a figure
may have any shape, arms and legs too, and two are apart when an empty cell lies between them (16 pixels always do).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.runtime.detectors.layout import STRIDES, cell_count
from edgekp.sample import Float

CELL = 8
SCORE = 0.9
STEEP = 1000.0  # between dark and bright lies a thousandth of a grey level


@dataclass
class Graph:
    """Nodes and weights as they come; ``add`` gives the name of a node's output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, values: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), f"weight_{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [f"{operator}_{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]


def write_blob_detector(path: Path, input_hw: tuple[int, int] = (320, 320), layout: str = "yolov8",
                        brighter_than: float = 170.0) -> Path:
    """Write the detector; boxes are right to a pixel of the input, and all scores are 0.9.

    Args:
        input_hw: multiples of 32.
        layout: ``yolov8``, or ``yolox`` for the same before decoding.
        brighter_than: 0..255, mean over the channels; above 114, which is around the picture.
    """
    h, w = input_hw
    graph = Graph()
    white = 255.0 if layout == "yolox" else 1.0
    gain = STEEP * 255 / white / 3
    bright = graph.add("Conv", "images", graph.weight(np.full((4, 3, 1, 1), gain)),
                       graph.weight([-STEEP * brighter_than] * 4), kernel_shape=[1, 1])
    bright = graph.add("Clip", bright, graph.weight(0.0), graph.weight(1.0))
    extent = graph.add("MaxPool", graph.add("Mul", graph.weight(reach(h, w)), bright),
                       kernel_shape=[CELL, CELL], strides=[CELL, CELL])
    occupied = graph.add("MaxPool", bright, kernel_shape=[CELL, CELL], strides=[CELL, CELL])
    for _ in range(h // CELL + w // CELL):  # more than a figure's longest way, unless it is a maze
        extent = graph.add("Mul", graph.add("MaxPool", extent, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), occupied)
    found = boxes(graph, extent, occupied, input_hw, layout)
    rows = graph.add("Concat", found, *scores(graph, occupied, layout), axis=1)
    rows = graph.add("Reshape", rows, graph.weight([1, 5 if layout == "yolov8" else 6, -1], np.int64))
    others = cell_count(input_hw, STRIDES[1:])  # the cells of the larger strides stay empty
    rows = graph.add("Pad", rows, graph.weight([0, 0, 0, 0, 0, others], np.int64))
    graph.add("Transpose", rows, perm=[0, 1, 2] if layout == "yolov8" else [0, 2, 1])
    graph.nodes[-1].output[0] = "output0"
    shape = (1, 5, cell_count(input_hw, STRIDES)) if layout == "yolov8" else (1, cell_count(input_hw, STRIDES), 6)
    save(path, graph, input_hw, shape)
    return path


def reach(h: int, w: int) -> Float:
    """(1, 4, h, w) how far each pixel reaches to the left, up, right and down, counted from the far side: 1 or more."""
    rows, columns = np.mgrid[:h, :w]
    return np.stack([w - columns, h - rows, columns + 1, rows + 1])[None].astype(np.float32)


def boxes(graph: Graph, extent: str, occupied: str, input_hw: tuple[int, int], layout: str) -> str:
    """(1, 4, h, w) centre and size of the figure that is in each cell, in pixels or, for YOLOX, in its raw terms."""
    h, w = input_hw
    mix = np.array([[-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5], [1, 0, 1, 0], [0, 1, 0, 1]])[..., None, None]
    found = graph.add("Conv", extent, graph.weight(mix), graph.weight([w / 2, h / 2, -w, -h]), kernel_shape=[1, 1])
    if layout == "yolov8":
        return graph.add("Mul", found, occupied)
    rows, columns = np.mgrid[:h // CELL, :w // CELL]
    center = graph.add("Slice", found, *(graph.weight([n], np.int64) for n in (0, 2, 1)))
    size = graph.add("Slice", found, *(graph.weight([n], np.int64) for n in (2, 4, 1)))
    cells = graph.add("Sub", graph.add("Mul", center, graph.weight(1 / CELL)),
                      graph.weight(np.stack([columns, rows])[None]))
    largest = graph.add("Clip", size, graph.weight(1.0), graph.weight(float(max(h, w))))
    logs = graph.add("Log", graph.add("Mul", largest, graph.weight(1 / CELL)))
    return graph.add("Mul", graph.add("Concat", cells, logs, axis=1), occupied)


def scores(graph: Graph, occupied: str, layout: str) -> list[str]:
    """The rows behind the boxes: the class, and for YOLOX the objectness before it, which is the same here."""
    occupied = graph.add("Slice", occupied, *(graph.weight([n], np.int64) for n in (0, 1, 1)))
    if layout == "yolov8":
        return [graph.add("Mul", occupied, graph.weight(SCORE))]
    return [graph.add("Mul", occupied, graph.weight(SCORE**0.5))] * 2


def save(path: Path, graph: Graph, input_hw: tuple[int, int], output_shape: tuple[int, ...]) -> None:
    model = helper.make_model(helper.make_graph(
        graph.nodes, "blobs", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *input_hw])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, output_shape)], graph.weights),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
