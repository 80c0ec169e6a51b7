"""A small ONNX network that sees the same person in every bright box and nobody in a dark one. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekp.artifact import write_artifact
from edgekp.codecs import Heatmap
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.skeletons import COCO17

INPUT_HW, STRIDE = (64, 64), 4
CONTRACT = Contract(InputSpec(INPUT_HW, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)), Heatmap(INPUT_HW), COCO17)


def write_steady_artifact(folder: Path) -> Path:
    """An artifact whose heatmaps are those of one standing person, as high as the box is bright (0 to 1)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    angles = np.linspace(0, 2 * np.pi, len(COCO17), endpoint=False)
    keypoints_xy = 31.5 + np.column_stack([13 * np.cos(angles), 26 * np.sin(angles)])
    across, down = (STRIDE * np.arange(side // STRIDE) + (STRIDE - 1) / 2 for side in INPUT_HW[::-1])
    far_px2 = ((across - keypoints_xy[:, None, None, 0])**2 + (down[:, None] - keypoints_xy[:, None, None, 1])**2)
    maps = np.exp(-far_px2 / (2 * (2 * STRIDE)**2))
    nodes = [helper.make_node("ReduceMean", ["input"], ["bright"], axes=[1, 2, 3], keepdims=1),
             helper.make_node("Mul", ["bright", "maps"], ["heatmaps"])]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, *INPUT_HW])
    said = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", *maps.shape])
    graph = helper.make_graph(nodes, "steady", [source], [said],
                              [numpy_helper.from_array(maps[None].astype(np.float32), "maps")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx", "target": "cpu", "precision": "fp32"})
    return folder
