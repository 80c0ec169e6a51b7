"""The waterfall names what was planted: one fault at a time, in a network that finds dots by their colours."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekp.artifact import Artifact, open_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.preprocess import InputSpec
from edgekp.skeletons import Skeleton
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.metrics import metric_named
from eval.waterfall import measure_waterfall

COLORS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)  # RGB of each dot
DOTS = Skeleton("dots", ("left_a", "right_a", "left_b", "right_b", "top", "chin"), (), (), (0.02,) * 6)
SPEC = InputSpec((64, 64), mean=(128.0,) * 3, std=(100.0,) * 3, pad_value=128)
CONTRACT = Contract(SPEC, build_codec("heatmap", SPEC.input_hw, {"stride": 2}), DOTS)
OKS_AP = metric_named("oks_ap")
IMAGES = 30
SIDE = 240  # pixels of a picture; the crop shrinks it, so that the kernel matters
NOISE = 45  # grey levels


def color_finder(strength: float = 1.0) -> onnx.ModelProto:
    """How much of each dot's colour is around each cell, smoothed over a cell's neighbourhood."""
    weight = (strength * COLORS).reshape(6, 3, 1, 1).astype(np.float32)
    tensors = [numpy_helper.from_array(weight, "colors"),
               numpy_helper.from_array(np.full(6, -0.15, np.float32), "floor")]
    nodes = [helper.make_node("Conv", ["input", "colors", "floor"], ["found"], name="colors"),
             helper.make_node("Relu", ["found"], ["positive"]),
             helper.make_node("AveragePool", ["positive"], ["heatmaps"], kernel_shape=[6, 6], strides=[2, 2],
                              pads=[2, 2, 2, 2])]
    graph = helper.make_graph(
        nodes, "dots", [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 6, 32, 32])], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    """Pictures of six soft dots, some of them in the margin that only the padding of the box shows."""
    folder = tmp_path_factory.mktemp("dots")
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    images, annotations = [], []
    for number in range(1, IMAGES + 1):
        centers = SIDE / 2 + np.array([[-55, -28], [55, -31], [-35, 36], [40, 33], [0, -61], [8, 64]])
        centers += rng.uniform(-8, 8, (6, 2))
        dots = np.exp(-((x - centers[:, 0, None, None]) ** 2 + (y - centers[:, 1, None, None]) ** 2) / (2 * 6**2))
        picture = 128 + 110 * np.einsum("khw,kc->hwc", dots, COLORS) + rng.normal(0, NOISE, (SIDE, SIDE, 3))
        cv2.imwrite(str(folder / f"{number}.png"), np.clip(picture[..., ::-1], 0, 255).astype(np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        triplets = np.column_stack([centers, np.full(6, 2)])
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [56, 56, 128, 128],
                            "area": 16384.0, "keypoints": triplets.ravel().tolist()})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dots"}]}
    (folder / "val.json").write_text(json.dumps(document))
    return read_ground_truth(folder / "val.json", DOTS)


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[..., Artifact]:
    """A model in a folder of that name."""
    def write(name: str, contract: Contract = CONTRACT, model: onnx.ModelProto | None = None) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        onnx.save(model or color_finder(), folder / "model.onnx")
        write_artifact(folder, "onnx", contract, {"file": "model.onnx", "precision": "fp32"})
        return open_artifact(folder)
    return write


def test_equal_models_lose_nothing_and_have_no_cause(artifact: Callable[..., Artifact], truth: GroundTruth) -> None:
    found = measure_waterfall(artifact("float"), artifact("other"), truth, OKS_AP)
    assert found.baseline > 0.9  # else nothing could be lost
    assert [fall.loss.point for fall in found.falls] == [0.0]
    assert found.cause is None


@pytest.mark.parametrize(("cause", "planted"), [
    ("input.color", replace(CONTRACT, input=replace(SPEC, color="BGR"))),
    ("input.padding", replace(CONTRACT, input=replace(SPEC, padding=1.0))),
    ("input.resize", replace(CONTRACT, input=replace(SPEC, resize="nearest"))),
    ("codec", replace(CONTRACT, codec=build_codec("msra", SPEC.input_hw, {"stride": 2}))),  # half a pixel off
    ("flip pairs", replace(CONTRACT, skeleton=replace(DOTS, flip_pairs=((0, 1),)))),
])
def test_a_planted_difference_is_named_as_the_cause(artifact: Callable[..., Artifact], truth: GroundTruth, cause: str,
                                                    planted: Contract) -> None:
    found = measure_waterfall(artifact("float"), artifact("candidate", planted), truth, OKS_AP)
    assert found.cause is not None
    assert found.cause.name == cause
    assert [fall.name for fall in found.falls if fall.is_real] == [cause]


def test_a_network_that_lost_a_color_is_named_itself(artifact: Callable[..., Artifact], truth: GroundTruth) -> None:
    found = measure_waterfall(artifact("float"), artifact("worse", model=color_finder(0.2)), truth, OKS_AP)
    assert found.cause is not None
    assert found.cause.name == "worse"


def test_several_differences_each_get_their_share(artifact: Callable[..., Artifact], truth: GroundTruth) -> None:
    planted = replace(CONTRACT, input=replace(SPEC, padding=1.0, color="BGR"))
    found = measure_waterfall(artifact("float"), artifact("candidate", planted), truth, OKS_AP)
    assert [fall.name for fall in found.falls] == ["candidate", "input.color", "input.padding"]
    assert found.falls[-1].value == pytest.approx(found.baseline - sum(fall.loss.point for fall in found.falls))


def test_what_cannot_be_swapped_alone_is_refused(artifact: Callable[..., Artifact], truth: GroundTruth) -> None:
    other = replace(CONTRACT, input=replace(SPEC, input_hw=(32, 32)),
                    codec=build_codec("heatmap", (32, 32), {"stride": 2}))
    with pytest.raises(ArtifactError, match="input_hw"):
        measure_waterfall(artifact("float"), artifact("candidate", other), truth, OKS_AP)
