"""The file in float16 beside an ONNX model: one precision inside, float32 outside, and numbers that are still right."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.export.checkpoint_to_artifact import FP16_FILE, export_checkpoint
from deploy.export.float16 import FIRST_OPSET_WITH_FLOAT16_SCALES, in_float16, with_grid_in_float32
from deploy.export.target import target_named
from deploy.export.verify import float16_session, verify_export
from deploy.runtime.onnx_session import OnnxSession
from deploy.runtime.session import open_session
from edgekp.artifact import Artifact, open_artifact
from edgekp.errors import ArtifactError
from tests.manifests import accept_files
from train.models.checkpoint import Checkpoint

MakeCheckpoint = Callable[[str, bool], Checkpoint]
HALF = 2.0**-11  # largest relative error of rounding to float16


@pytest.fixture(scope="module")
def artifact_of(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: MakeCheckpoint) -> Callable[[bool], Artifact]:
    """The HRNet as target ``jetson`` gets it, float or on the int8 grid. Not to be changed."""
    folder = tmp_path_factory.mktemp("jetson")

    @cache
    def make(integer: bool) -> Artifact:
        export_checkpoint(checkpoint_of("hrnet", integer), folder / str(integer), target_named("jetson"))
        return open_artifact(folder / str(integer))
    return make


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value and constant by name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {info.name: info.type.tensor_type.elem_type for info in (*graph.input, *graph.output, *graph.value_info)}
    return values | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("integer", [False, True])
def test_float32_is_left_outside_alone(integer: bool, artifact_of: Callable[[bool], Artifact]) -> None:
    artifact = artifact_of(integer)
    assert artifact.model["fp16_file"] == FP16_FILE
    assert FP16_FILE in artifact.files
    model = onnx.load(artifact.folder / FP16_FILE)
    onnx.checker.check_model(model, full_check=True)
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    types = types_of(model)
    sizes = {name for node in model.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    wide = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
    assert ends <= wide
    assert wide - ends <= sizes  # how much a Resize enlarges is float32 by the standard
    assert {types[node.output[0]] for node in model.graph.node if node.op_type == "Conv"} == {TensorProto.FLOAT16}


@pytest.mark.parametrize("integer", [False, True])
def test_the_opset_allows_the_types_that_it_is_written_in(integer: bool,
                                                          artifact_of: Callable[[bool], Artifact]) -> None:
    artifact = artifact_of(integer)
    opset = onnx.load(artifact.folder / FP16_FILE).opset_import[0].version
    assert opset == artifact.model["fp16_opset"]
    assert opset == (FIRST_OPSET_WITH_FLOAT16_SCALES if integer else artifact.model["opset"])
    assert artifact.model["opset"] == target_named("jetson").opset


def test_a_float_model_says_what_it_said(artifact_of: Callable[[bool], Artifact]) -> None:
    """Weights and results are off by up to 2^-11 each; over some 20 layers that stays below 20 of it."""
    artifact = artifact_of(False)
    inputs = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    expected = open_session(artifact).infer(inputs)["heatmaps"]
    found = float16_session(artifact).infer(inputs)["heatmaps"]
    assert found.dtype == np.float32
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < difference < 20 * HALF


def test_integer_weights_and_scales_are_the_same_but_for_float16(artifact_of: Callable[[bool], Artifact]) -> None:
    folder = artifact_of(True).folder
    grids = []
    for name in ("model.onnx", FP16_FILE):
        graph = onnx.load(folder / name).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        grids.append({node.output[0]: (constants.get(node.input[0]), constants[node.input[1]].astype(np.float32))
                      for node in graph.node if node.op_type == "DequantizeLinear"})
    exact, rounded = grids
    assert exact.keys() == rounded.keys()
    for name, (levels, scale) in exact.items():
        np.testing.assert_array_equal(rounded[name][0], levels)
        np.testing.assert_allclose(rounded[name][1], scale, rtol=HALF)


def test_a_scale_too_small_for_float16_does_not_become_zero() -> None:
    """A channel of zeros has such a scale, and TensorRT refuses a scale of 0."""
    constants = [numpy_helper.from_array(np.zeros((2, 1, 1, 1), np.int8), "levels"),
                 numpy_helper.from_array(np.array([1e-12, 0.5], np.float32), "scale"),
                 numpy_helper.from_array(np.zeros(2, np.int8), "zero")]
    nodes = [helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["weight"], axis=0),
             helper.make_node("Conv", ["input", "weight"], ["out"])]
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 4, 4]),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 2, 4, 4])]
    model = helper.make_model(helper.make_graph(nodes, "one", ends[:1], ends[1:], constants),
                              opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    scale, = (numpy_helper.to_array(tensor) for tensor in in_float16(model).graph.initializer if tensor.name == "scale")
    assert scale.dtype == np.float16
    assert 0 < scale[0] < 1e-7
    assert scale[1] == 0.5


def test_on_its_grid_in_float32_a_file_rounds_as_the_standard_says(artifact_of: Callable[[bool], Artifact]) -> None:
    """ONNX Runtime alone would cut off: then the first results would lie half a step lower on average."""
    model = onnx.load(artifact_of(True).folder / FP16_FILE)
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    scale = next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == first.input[1])
    shown = with_grid_in_float32(model)
    shown.graph.output.append(helper.make_tensor_value_info(first.output[0], TensorProto.INT8, None))
    names = tuple(output.name for output in shown.graph.output)
    inputs = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float16)
    levels = OnnxSession(shown.SerializeToString(), names, "test").infer(inputs)[first.output[0]]
    expected = np.clip(np.rint(inputs.astype(np.float32) / np.float32(scale)), -128, 127)
    np.testing.assert_array_equal(levels, expected)


@pytest.mark.parametrize("integer", [False, True])
def test_another_file_in_float16_is_refused(integer: bool, tmp_path: Path, checkpoint_of: MakeCheckpoint,
                                            artifact_of: Callable[[bool], Artifact]) -> None:
    for path in artifact_of(integer).folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    verify_export(tmp_path, checkpoint_of("hrnet", integer).net)
    model = onnx.load(tmp_path / FP16_FILE)
    for weight in model.graph.initializer:
        if len(weight.dims) == 4:
            values = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array((values * (-1 if integer else 1.05)).astype(values.dtype),
                                                    weight.name))
    onnx.save(model, tmp_path / FP16_FILE)
    with pytest.raises(ArtifactError, match="sha256"):
        open_artifact(tmp_path)
    accept_files(tmp_path)
    with pytest.raises(ArtifactError, match="differs from the network by"):
        verify_export(tmp_path, checkpoint_of("hrnet", integer).net)


def test_other_targets_have_no_such_file(export_of: Callable[[str, str], Path]) -> None:
    artifact = open_artifact(export_of("hrnet", "uint8"))
    assert "fp16_file" not in artifact.model
    assert FP16_FILE not in artifact.files
