"""The other direction, for tests: pictures as each family's own code prepares them, and boxes as its network says them.

Written from the families' sources, without a line of the adapters; in float64, so that what comes back is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekp.sample import Float, Image

CLASSES = 3
Arrays = dict[str, Float]
Hw = tuple[int, int]


@dataclass(frozen=True)
class Prepared:
    """A family's input, (3, h, w), and where the picture is in it: size and offset, pixels."""

    pixels: Float
    size_wh: tuple[int, int]
    offset_xy: tuple[int, int]

    def edges(self, boxes_xywh: Float, image_hw: Hw) -> Float:
        """(N, 4) left, top, right, bottom in the input: the picture was stretched from edge to edge."""
        stretch = np.array([self.size_wh[0] / image_hw[1], self.size_wh[1] / image_hw[0]])
        first, size = boxes_xywh[:, :2] * stretch, boxes_xywh[:, 2:] * stretch
        return np.hstack([first + self.offset_xy, first + size + self.offset_xy])


def top_left(bgr: Image, input_hw: Hw, size_wh: tuple[int, int], pad: int) -> Image:
    canvas = np.full((*input_hw, 3), pad, np.uint8)
    canvas[:size_wh[1], :size_wh[0]] = cv2.resize(bgr, size_wh)
    return canvas


def as_yolox(bgr: Image, input_hw: Hw) -> Prepared:
    r = min(input_hw[0] / bgr.shape[0], input_hw[1] / bgr.shape[1])
    size = max(int(bgr.shape[1] * r), 1), max(int(bgr.shape[0] * r), 1)
    return Prepared(top_left(bgr, input_hw, size, 114).transpose(2, 0, 1).astype(np.float32), size, (0, 0))


def as_yolov5(bgr: Image, input_hw: Hw) -> Prepared:
    r = min(input_hw[0] / bgr.shape[0], input_hw[1] / bgr.shape[1])
    size = max(round(bgr.shape[1] * r), 1), max(round(bgr.shape[0] * r), 1)
    half_x, half_y = (input_hw[1] - size[0]) / 2, (input_hw[0] - size[1]) / 2
    left, top = round(half_x - 0.1), round(half_y - 0.1)
    boxed = cv2.copyMakeBorder(cv2.resize(bgr, size), top, round(half_y + 0.1), left, round(half_x + 0.1),
                               cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return Prepared(cv2.cvtColor(boxed, cv2.COLOR_BGR2RGB).transpose(2, 0, 1) / np.float32(255), size, (left, top))


def as_mmdetection(bgr: Image, input_hw: Hw) -> Prepared:
    r = min(input_hw[0] / bgr.shape[0], input_hw[1] / bgr.shape[1])
    size = max(int(bgr.shape[1] * r + 0.5), 1), max(int(bgr.shape[0] * r + 0.5), 1)
    return Prepared(top_left(bgr, input_hw, size, 114).transpose(2, 0, 1).astype(np.float32), size, (0, 0))


def as_rtmdet(bgr: Image, input_hw: Hw) -> Prepared:
    plain = as_mmdetection(bgr, input_hw)
    mean, std = np.float32([103.53, 116.28, 123.675]), np.float32([57.375, 57.12, 58.395])
    return Prepared((plain.pixels - mean[:, None, None]) / std[:, None, None], plain.size_wh, (0, 0))


def as_yunet(bgr: Image, input_hw: Hw) -> Prepared:
    r = min(input_hw[0] / bgr.shape[0], input_hw[1] / bgr.shape[1])
    size = max(int(bgr.shape[1] * r), 1), max(int(bgr.shape[0] * r), 1)
    return Prepared(top_left(bgr, input_hw, size, 0).transpose(2, 0, 1).astype(np.float32), size, (0, 0))


def as_scrfd(bgr: Image, input_hw: Hw) -> Prepared:
    plain = as_yunet(bgr, input_hw)
    return Prepared((plain.pixels[::-1] - np.float32(127.5)) / np.float32(128), plain.size_wh, (0, 0))


PREPARED: dict[str, Callable[[Image, Hw], Prepared]] = {
    "yolox": as_yolox, "yolox-decoded": as_yolox, "yolox-mmdeploy": as_mmdetection, "yolov5": as_yolov5,
    "yolov6": as_yolov5, "yolov8": as_yolov5, "yolo-end2end": as_yolov5, "rtmdet": as_rtmdet, "yunet": as_yunet,
    "scrfd": as_scrfd}


@cache
def cells(input_hw: Hw, strides: tuple[int, ...] = (8, 16, 32), a_cell: int = 1) -> Float:
    """(N, 3) column, row, stride of the cells, as networks flatten their grids."""
    return np.array([(column, row, stride) for stride in strides for row in range(input_hw[0] // stride)
                     for column in range(input_hw[1] // stride) for _ in range(a_cell)], np.float64)


def centres(edges: Float) -> Float:
    return np.hstack([(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]])


def encoded(layout: str, edges: Float, scores: Float, input_hw: Hw, rng: np.random.Generator,
            class_id: int = 0) -> Arrays:
    """Outputs that say these boxes, somewhere, and one more of another class; edges in the input."""
    decoy_id = (class_id + 1) % CLASSES
    edges = np.vstack([edges, [[1.0, 2.0, input_hw[1] - 3.0, input_hw[0] - 4.0]]])
    class_ids = np.append(np.full(len(scores), class_id), decoy_id)
    scores = np.append(scores, 0.99)
    if layout in ("yunet", "scrfd"):  # have one class: no decoy
        return FACES[layout](edges[:-1], scores[:-1], input_hw, rng)
    return PEOPLE[layout](edges, scores, class_ids, input_hw, rng)


def yolo_rows(xywh: Float, scores: Float, class_ids: Float, ground: Float, objectness: Float,
              rng: np.random.Generator) -> Float:
    """(N, 5 + classes) the rows of ``ground`` with the boxes in some of them."""
    rows = np.hstack([ground, np.zeros((len(ground), 1 + CLASSES))])
    at = rng.choice(len(ground), len(xywh), replace=False)
    rows[at, :4], rows[at, 4] = xywh, objectness
    rows[at, 5 + class_ids] = scores / objectness
    return rows


def own_places(grid: Float) -> Float:
    """(N, 4) what decoded rows say where there is nothing: a box about the cell itself."""
    return np.hstack([(grid[:, :2] + 0.5) * grid[:, 2:], grid[:, 2:], grid[:, 2:]])


def encode_yolox(edges: Float, scores: Float, class_ids: Float, input_hw: Hw, rng: np.random.Generator) -> Arrays:
    return {"output": raw(edges, scores, class_ids, cells(input_hw), rng)}


def raw(edges: Float, scores: Float, class_ids: Float, grid: Float, rng: np.random.Generator) -> Float:
    rows = yolo_rows(centres(edges), scores, class_ids, np.zeros((len(grid), 4)), scores**0.3, rng)
    said = np.flatnonzero(rows[:, 2])
    rows[said, :4] /= grid[said, 2:]
    rows[said, :2] -= grid[said, :2]
    rows[said, 2:4] = np.log(rows[said, 2:4])
    return rows[None]


def encode_yolox_decoded(edges: Float, scores: Float, class_ids: Float, input_hw: Hw,
                         rng: np.random.Generator) -> Arrays:
    return {"output": yolo_rows(centres(edges), scores, class_ids, own_places(cells(input_hw)), scores**0.3, rng)[None]}


def encode_yolov5(edges: Float, scores: Float, class_ids: Float, input_hw: Hw, rng: np.random.Generator) -> Arrays:
    ground = np.tile(own_places(cells(input_hw)), (3, 1))
    return {"output0": yolo_rows(centres(edges), scores, class_ids, ground, scores**0.6, rng)[None]}


def encode_yolov6(edges: Float, scores: Float, class_ids: Float, input_hw: Hw, rng: np.random.Generator) -> Arrays:
    rows = yolo_rows(centres(edges), scores, class_ids, own_places(cells(input_hw)), np.ones(len(scores)), rng)
    rows[:, 4] = 1
    return {"outputs": rows[None]}


def encode_yolov8(edges: Float, scores: Float, class_ids: Float, input_hw: Hw, rng: np.random.Generator) -> Arrays:
    rows = yolo_rows(centres(edges), scores, class_ids, own_places(cells(input_hw)), np.ones(len(scores)), rng)
    return {"output0": np.delete(rows, 4, axis=1).T[None]}


def encode_end_to_end(edges: Float, scores: Float, class_ids: Float, _input_hw: Hw,
                      _rng: np.random.Generator) -> Arrays:
    rows = np.zeros((300, 6))
    rows[:len(edges)] = np.hstack([edges, scores[:, None], class_ids[:, None]])
    return {"output0": rows[np.argsort(-rows[:, 4], kind="stable")][None]}


def encode_mmdeploy(edges: Float, scores: Float, class_ids: Float, _input_hw: Hw, _rng: np.random.Generator) -> Arrays:
    return {"dets": np.hstack([edges, scores[:, None]])[None], "labels": class_ids[None]}


def encode_yunet(edges: Float, scores: Float, input_hw: Hw, rng: np.random.Generator) -> Arrays:
    grid = cells(input_hw)
    at = rng.choice(len(grid), len(edges), replace=False)
    said = {"cls": np.zeros((len(grid), 1)), "obj": np.zeros((len(grid), 1)), "bbox": np.zeros((len(grid), 4)),
            "kps": np.zeros((len(grid), 10))}
    said["cls"][at, 0], said["obj"][at, 0] = scores**1.5, scores**0.5
    wanted = centres(edges) / grid[at, 2:]
    said["bbox"][at] = np.hstack([wanted[:, :2] - grid[at, :2], np.log(wanted[:, 2:])])
    return {f"{kind}_{stride}": array[grid[:, 2] == stride][None] for kind, array in said.items()
            for stride in (8, 16, 32)}


def encode_scrfd(edges: Float, scores: Float, input_hw: Hw, rng: np.random.Generator) -> Arrays:
    grid = cells(input_hw, a_cell=2)
    at = rng.choice(len(grid), len(edges), replace=False)
    score, distance = np.zeros((len(grid), 1)), np.zeros((len(grid), 4))
    corner = grid[at, :2] * grid[at, 2:]
    score[at, 0] = scores
    distance[at] = np.hstack([corner - edges[:, :2], edges[:, 2:] - corner]) / grid[at, 2:]
    arrays = [array[grid[:, 2] == stride] for array in (score, distance, np.zeros((len(grid), 10)))
              for stride in (8, 16, 32)]
    return {str(448 + index): array for index, array in enumerate(arrays)}


PEOPLE = {"yolox": encode_yolox, "yolox-decoded": encode_yolox_decoded, "yolox-mmdeploy": encode_mmdeploy,
          "yolov5": encode_yolov5, "yolov6": encode_yolov6, "yolov8": encode_yolov8,
          "yolo-end2end": encode_end_to_end, "rtmdet": encode_mmdeploy}
FACES = {"yunet": encode_yunet, "scrfd": encode_scrfd}


def write_constant(path: Path, outputs: Arrays, input_hw: tuple[int | str, int | str], *, slices: bool = False,
                   input_type: int = TensorProto.FLOAT, batch: int = 1, inputs: int = 1) -> Path:
    """An ONNX file that says the same whatever it sees; with ``slices`` it first cuts its input, as YOLOX does."""
    named = [helper.make_tensor_value_info(f"input{n or ''}", input_type, [batch, 3, *input_hw]) for n in range(inputs)]
    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ascontiguousarray(array)))
             for name, array in outputs.items()]
    nodes.append(helper.make_node("Slice", ["input", "from", "to", "axes"], ["cut"]) if slices
                 else helper.make_node("Relu", ["input"], ["cut"]))
    ends = [numpy_helper.from_array(np.array([value]), name) for name, value in (("from", 0), ("to", 2), ("axes", 2))]
    said = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in outputs.items()]
    graph = helper.make_graph(nodes, "constant", named, said, ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
