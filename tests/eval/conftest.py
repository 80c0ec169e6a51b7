"""Toy models and data: a network that says the same pose for every crop, and pictures it is nearly right about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekp.artifact import write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.skeletons import Skeleton, skeleton_named
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.results import Result

INPUT_HW = (32, 32)
BOX = (12.0, 10.0, 40.0, 40.0)


def pose(skeleton: Skeleton) -> np.ndarray:
    """(K, 2) keypoints spread over the box, as fractions of it from its centre."""
    return np.random.default_rng(5).uniform(-0.35, 0.35, (len(skeleton), 2))


def coco(skeleton: Skeleton, n_images: int, per_image: int = 1, noise_px: float = 1.0) -> dict[str, Any]:
    """Annotations whose keypoints scatter around the toy pose in the toy box."""
    rng = np.random.default_rng(11)
    centre = np.array([BOX[0] + (BOX[2] - 1) / 2, BOX[1] + (BOX[3] - 1) / 2])
    true_xy = centre + pose(skeleton) * BOX[2]
    annotations = []
    for number in range(n_images * per_image):
        xy = true_xy + rng.normal(0, noise_px, true_xy.shape)
        triplets = np.concatenate([xy, np.full((len(skeleton), 1), 2)], axis=1)
        annotations.append({"id": number + 1, "image_id": 1 + number // per_image, "category_id": 1, "iscrowd": 0,
                            "bbox": list(BOX), "area": 0.5 * BOX[2] * BOX[3], "num_keypoints": len(skeleton),
                            "keypoints": triplets.ravel().tolist()})
    images = [{"id": 1 + number, "file_name": f"{number}.png", "width": 64, "height": 64} for number in range(n_images)]
    return {"images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "toy", "keypoints": list(skeleton.keypoints)}]}


def network(shape_xy: np.ndarray) -> onnx.ModelProto:
    """Regresses ``shape_xy``, fractions of the input, whatever the pixels: pooling, then a convolution of zeros."""
    k = len(shape_xy)
    arrays = {"zeros": np.zeros((2 * k, 3, 1, 1)), "shape": shape_xy.reshape(-1)}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    weights.append(numpy_helper.from_array(np.array([-1, k, 2]), "to"))
    nodes = [helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
             helper.make_node("Conv", ["pooled", "zeros", "shape"], ["values"]),
             helper.make_node("Reshape", ["values", "to"], ["coordinates"])]
    graph = helper.make_graph(
        nodes, "toy", [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, *INPUT_HW])],
        [helper.make_tensor_value_info("coordinates", TensorProto.FLOAT, ["n", k, 2])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def toy_artifact(tmp_path: Path) -> Callable[..., Path]:
    """Writes an artifact whose keypoints are off by ``offset_px`` of the crop's 32 pixels; NaN gives a broken one."""
    def write(name: str, offset_px: float = 0.0, skeleton: str = "coco17", into: Path = tmp_path) -> Path:
        kind = skeleton_named(skeleton)
        contract = Contract(InputSpec(INPUT_HW, padding=1.0), build_codec("regression", INPUT_HW, {}), kind)
        folder = into / name
        folder.mkdir(parents=True)
        onnx.save(network(pose(kind) + offset_px / INPUT_HW[1]), folder / "model.onnx")
        write_artifact(folder, "onnx", contract, {"file": "model.onnx", "parameters": 8 * len(kind), "macs": 3,
                                                  "precision": "fp32", "target": "cpu"})
        return folder
    return write


@pytest.fixture
def toy_data(tmp_path: Path) -> Callable[..., Path]:
    """Writes annotations and grey pictures; the path of the annotations."""
    def write(skeleton: str = "coco17", n_images: int = 24, noise_px: float = 1.0) -> Path:
        folder = tmp_path / f"data_{skeleton}"
        folder.mkdir()
        for number in range(n_images):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 64, 3), 90 + number, np.uint8))
        path = folder / "val.json"
        path.write_text(json.dumps(coco(skeleton_named(skeleton), n_images, noise_px=noise_px)))
        return path
    return write


@pytest.fixture
def toy_truth(tmp_path: Path) -> Callable[..., GroundTruth]:
    """Ground truth without pictures; ``change`` may edit the COCO document first."""
    def read(skeleton: str = "coco17", n_images: int = 24, per_image: int = 1,
             change: Callable[[dict[str, Any]], None] = lambda document: None) -> GroundTruth:
        document = coco(skeleton_named(skeleton), n_images, per_image)
        change(document)
        path = tmp_path / f"truth_{skeleton}_{n_images}.json"
        path.write_text(json.dumps(document))
        return read_ground_truth(path, skeleton_named(skeleton))
    return read


@pytest.fixture
def scattered() -> Callable[..., list[Result]]:
    """Results that scatter around the truth, with scores; ``wrong`` is the share of keypoints that are far off."""
    def predict(truth: GroundTruth, rng: np.random.Generator, spread_px: float = 1.0,
                wrong: float = 0.0) -> list[Result]:
        xy = truth.true_xy + rng.normal(0, spread_px, truth.true_xy.shape)
        xy[rng.random(xy.shape[:2]) < wrong] += 30.0
        scores = rng.uniform(0.3, 1.0, (*xy.shape[:2], 1))
        triplets = np.concatenate([xy, scores], axis=-1)
        return [{"image_id": instance.image.id, "category_id": truth.category_of[instance.id],
                 "annotation_id": instance.id, "score": float(values[:, 2].mean()),
                 "keypoints": values.ravel().tolist()}
                for instance, values in zip(truth.labels.instances, triplets, strict=True)]
    return predict
