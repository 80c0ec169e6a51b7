"""Layers on their grid one at a time: views that add up to the whole, and a damaged layer found by its name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.export.qdq import SPELLINGS
from edgekp.artifact import Artifact, open_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.preprocess import InputSpec
from edgekp.sample import Float
from edgekp.skeletons import LSP14
from eval.layer_errors import layer_errors, sqnr_db
from eval.quantized_graph import QuantizedGraph

HW = (32, 24)
CONTRACT = Contract(InputSpec(HW), build_codec("heatmap", HW, {}), LSP14)
WIDTHS = (3, 16, 16, 14)


@pytest.fixture
def weights(rng: np.random.Generator) -> list[Float]:
    """Of three convolutions; the first has stride 4."""
    return [rng.normal(0, 1 / np.sqrt(9 * a), (b, a, 3, 3)).astype(np.float32)
            for a, b in pairwise(WIDTHS)]


def float_net(weights: list[Float]) -> onnx.ModelProto:
    nodes, tensors = [], []
    source = "input"
    for number, weight in enumerate(weights):
        tensors.append(numpy_helper.from_array(weight, f"w{number}"))
        last = number == len(weights) - 1
        out = "heatmaps" if last else f"conv{number}_out"
        nodes.append(helper.make_node("Conv", [source, f"w{number}"], [out], name=f"conv{number}", pads=[1, 1, 1, 1],
                                      strides=[4, 4] if number == 0 else [1, 1]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"relu{number}"], name=f"relu{number}"))
            source = f"relu{number}"
    return as_model(nodes, tensors)


def integer_net(weights: list[Float], activation_scale: tuple[float, float] = (0.03, 0.02),
                weight_factor: float = 1.0) -> onnx.ModelProto:
    """The same in QDQ form; ``weight_factor`` stretches every other channel of the second layer."""
    nodes, tensors = [], [numpy_helper.from_array(np.array(0, np.int8), "zero")]
    source = "input"
    for number, weight in enumerate(weights):
        scale = np.abs(weight).max((1, 2, 3)) / 127
        levels = np.clip(np.rint(weight / scale[:, None, None, None]), -127, 127).astype(np.int8)
        stretched = scale * np.where(np.arange(len(scale)) % 2 & (number == 1), weight_factor, 1)
        tensors += [numpy_helper.from_array(levels, f"w{number}"),
                    numpy_helper.from_array(stretched.astype(np.float32), f"s{number}"),
                    numpy_helper.from_array(np.zeros(len(scale), np.int8), f"z{number}")]
        nodes.append(helper.make_node("DequantizeLinear", [f"w{number}", f"s{number}", f"z{number}"], [f"w{number}_dq"],
                                      axis=0, name=f"dq{number}"))
        last = number == len(weights) - 1
        out = "heatmaps" if last else f"conv{number}_out"
        nodes.append(helper.make_node("Conv", [source, f"w{number}_dq"], [out], name=f"conv{number}",
                                      pads=[1, 1, 1, 1], strides=[4, 4] if number == 0 else [1, 1]))
        if not last:
            tensors.append(numpy_helper.from_array(np.array(activation_scale[number], np.float32), f"a{number}"))
            nodes += [helper.make_node("Relu", [out], [f"relu{number}"], name=f"relu{number}"),
                      helper.make_node("QuantizeLinear", [f"relu{number}", f"a{number}", "zero"], [f"q{number}"]),
                      helper.make_node("DequantizeLinear", [f"q{number}", f"a{number}", "zero"], [f"relu{number}_dq"])]
            source = f"relu{number}_dq"
    return as_model(nodes, tensors)


def as_model(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, *HW])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 14, HW[0] // 4, HW[1] // 4])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, inputs: Float) -> Float:
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"input": inputs})[0])


@pytest.fixture
def inputs(rng: np.random.Generator) -> Float:
    return rng.normal(0, 1, (8, 3, *HW)).astype(np.float32)


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[str, onnx.ModelProto], Artifact]:
    def write(name: str, model: onnx.ModelProto) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        onnx.save(model, folder / "model.onnx")
        write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx"})
        return open_artifact(folder)
    return write


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_nothing_on_its_grid_is_the_float_network_and_everything_is_the_integer_one(
        weights: list[Float], inputs: Float, spelling: str) -> None:
    model = integer_net(weights)
    SPELLINGS[spelling](model)
    graph = QuantizedGraph(model)
    exact = {weight.tensor: values for weight, values in zip(graph.integer_weights(), weights, strict=True)}
    np.testing.assert_allclose(run(graph.view(weights=exact), inputs), run(float_net(weights), inputs), atol=1e-5)
    whole = graph.view([grid.name for grid in graph.grids()])
    np.testing.assert_array_equal(run(whole, inputs), run(model, inputs))


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_grids_are_named_after_the_layer_whose_result_they_round(weights: list[Float], spelling: str) -> None:
    model = integer_net(weights)
    SPELLINGS[spelling](model)
    assert [grid.layer for grid in QuantizedGraph(model).grids()] == ["conv0", "conv1"]


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@pytest.mark.parametrize(("layer", "part", "damage"), [
    ("conv1", "weights", {"weight_factor": 1.6}),
    ("conv0", "activations", {"activation_scale": (0.002, 0.02)}),  # clips at 0.25, values reach 3
    ("conv1", "activations", {"activation_scale": (0.03, 0.5)}),  # three levels are left
])
def test_a_damaged_layer_is_the_worst(artifact: Callable[..., Artifact], weights: list[Float], inputs: Float,
                                      spelling: str, layer: str, part: str, damage: dict[str, object]) -> None:
    damaged = integer_net(weights, **damage)  # type: ignore[arg-type]
    SPELLINGS[spelling](damaged)
    errors = layer_errors(artifact("int8", damaged), inputs, artifact("float", float_net(weights)))
    assert (errors[0].layer, errors[0].part) == (layer, part)
    assert errors[0].error_px > 2 * errors[1].error_px
    assert len(errors) == 3 + 2


def test_sound_layers_have_the_noise_of_eight_bits(artifact: Callable[..., Artifact], weights: list[Float],
                                                   inputs: Float) -> None:
    """A grid of 127 levels up to the maximum of some normal values leaves 38 to 48 dB: 6 a bit, less head-room."""
    errors = layer_errors(artifact("int8", integer_net(weights)), inputs, artifact("float", float_net(weights)))
    assert all(38 < error.sqnr_db < 48 for error in errors if error.part == "weights")
    assert all(error.sqnr_db > 25 for error in errors)


def test_without_the_float_model_only_activations_are_told(artifact: Callable[..., Artifact], weights: list[Float],
                                                           inputs: Float) -> None:
    errors = layer_errors(artifact("int8", integer_net(weights)), inputs)
    assert {error.part for error in errors} == {"activations"}


def test_another_network_as_reference_is_refused(artifact: Callable[..., Artifact], weights: list[Float],
                                                 inputs: Float) -> None:
    with pytest.raises(ArtifactError, match="other layers"):
        deeper = float_net([*weights[:2], *weights[1:]])
        layer_errors(artifact("int8", integer_net(weights)), inputs, artifact("deeper", deeper))


def test_a_float_model_has_no_layers_to_tell(artifact: Callable[..., Artifact], weights: list[Float],
                                             inputs: Float) -> None:
    with pytest.raises(ArtifactError, match="rounds nothing"):
        layer_errors(artifact("float", float_net(weights)), inputs)


def test_sqnr_is_the_ratio_of_energies_in_decibels() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 3.5])) == pytest.approx(20.0)
    assert sqnr_db(np.ones(4), np.ones(4)) == np.inf
