"""OpenCV brings its own reading of YuNet's outputs: the same file, the same faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.runtime.detectors import LAYOUTS, open_detector
from deploy.runtime.detectors.detector import run
from deploy.runtime.detectors.dnn_session import DnnSession
from edgekp.sample import Float
from tests.deploy.detectors.encoders import Arrays, encoded

INPUT_HW = (96, 160)
MOST_OVERLAP = 0.3


def write_yunet(path: Path, outputs: Arrays) -> Path:
    """A file that says the same whatever it sees, of operators that OpenCV knows: something of the input, by 0."""
    weights = {f"said_{name}": array.astype(np.float32) for name, array in outputs.items()}
    weights |= {"nothing": np.zeros((1, 1, 1), np.float32)}
    ints = {"from": [0], "to": [1], "axis": [1], "three": [1, 1, 1]}
    nodes = [helper.make_node("GlobalMaxPool", ["input"], ["brightest"]),
             helper.make_node("Slice", ["brightest", "from", "to", "axis"], ["one"]),
             helper.make_node("Reshape", ["one", "three"], ["flat"]),
             helper.make_node("Mul", ["flat", "nothing"], ["zero"])]
    nodes += [helper.make_node("Add", ["zero", f"said_{name}"], [name]) for name in outputs]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    initializers += [numpy_helper.from_array(np.array(values), name) for name, values in ints.items()]
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in outputs.items()]
    images = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *INPUT_HW])
    graph = helper.make_graph(nodes, "yunet", [images], said, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def overlapping(rng: np.random.Generator) -> tuple[Float, Float]:
    """Edges and scores of 6 faces, 7 boxes each: clear cases, as OpenCV suppresses boxes of whole pixels."""
    corner = np.array([(10 + 48 * column, 6 + 44 * row) for column in range(3) for row in range(2)] * 7, np.float64)
    first = corner + rng.uniform(-1, 1, corner.shape)
    return np.hstack([first, first + rng.uniform(30, 36, corner.shape)]), rng.permutation(np.linspace(0.3, 0.95, 42))


def test_faces_are_those_that_opencv_finds(overlapping: tuple[Float, Float], tmp_path: Path,
                                           rng: np.random.Generator) -> None:
    outputs = encoded("yunet", *overlapping, INPUT_HW, rng)
    for stride in (8, 16, 32):
        outputs[f"obj_{stride}"] *= 1.3  # above 1 in places
    path = write_yunet(tmp_path / "yunet.onnx", outputs)
    picture = np.zeros((*INPUT_HW, 3), np.uint8)
    opencv = cv2.FaceDetectorYN.create(str(path), "", INPUT_HW[::-1], 0.4, MOST_OVERLAP).detect(picture)[1]
    found = open_detector(path).detect(picture)
    assert len(found.scores) == 6
    np.testing.assert_allclose(found.boxes_xywh, opencv[:, :4], atol=1e-3)
    np.testing.assert_allclose(found.scores, opencv[:, 14], atol=1e-6)


def test_all_twelve_outputs_come_out_of_opencv_by_name(tmp_path: Path, overlapping: tuple[Float, Float],
                                                       rng: np.random.Generator) -> None:
    outputs = encoded("yunet", *overlapping, INPUT_HW, rng)
    session = DnnSession(write_yunet(tmp_path / "yunet.onnx", outputs).read_bytes(), tuple(outputs), "yunet.onnx")
    given = run(session, np.zeros((1, 3, *INPUT_HW), np.float32), "")
    for name, array in outputs.items():
        np.testing.assert_allclose(given[name].reshape(array.shape), array, atol=1e-6)
    assert len(LAYOUTS["yunet"].candidates(given, INPUT_HW, 0, 0.4).scores) > 30
    session.close()
