"""One grid, two spellings: the same keypoints from both, and no float where integers belong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact
from edgekp.errors import ArtifactError
from edgekp.recipe_steps import Quantize
from edgekp.sample import Float
from optimize.ptq import quantize_network
from tests import tiny
from train.dataset import KeypointDataset
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.models.quantized import quant_convs

MakeCheckpoint = Callable[[str, bool], Checkpoint]
MakeExport = Callable[[str, str], Path]
NETWORKS = ["hrnet", "mobilefacenet"]
each_network = pytest.mark.parametrize("name", NETWORKS)


def graph_of(folder: Path) -> tuple[onnx.GraphProto, dict[str, np.ndarray]]:
    graph = onnx.load(folder / "model.onnx").graph
    return graph, {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: MakeCheckpoint) -> Callable[[str], Float]:
    people = tiny.instances(tmp_path_factory.mktemp("inputs"), 16)

    def prepared(name: str) -> Float:
        dataset = KeypointDataset(people, checkpoint_of(name, True).contract, None, 0)
        return np.stack([dataset.sample(0, i)[0] for i in range(len(people))])
    return prepared


@each_network
def test_both_spellings_say_what_the_network_says(name: str, checkpoint_of: MakeCheckpoint, export_of: MakeExport,
                                                  inputs: Callable[[str], Float]) -> None:
    checkpoint, x = checkpoint_of(name, True), inputs(name)
    said = {spelling: open_session(open_artifact(export_of(name, spelling))).infer(x)
            for spelling in ("int8", "uint8")}
    with torch.no_grad():
        outputs = (output.numpy() for output in checkpoint.net(torch.from_numpy(x)))
    said["torch"] = dict(zip(checkpoint.contract.codec.outputs, outputs, strict=True))
    for output in checkpoint.contract.codec.outputs:
        for spelling in ("int8", "uint8"):
            off = np.abs(said[spelling][output] - said["torch"][output]) / np.abs(said["torch"][output]).max()
            # One step is 1/127 = 0.008 of a tensor's largest value. Ties, and for int8 an integer Resize that cuts
            # off instead of rounding, move single values by a step; many layers add up to about one step.
            assert off.mean() < 1.5 / 127
            assert off.max() < 8 / 127


@each_network
@pytest.mark.parametrize("spelling", ["int8", "uint8"])
def test_the_file_without_integer_kernels_is_the_network_up_to_ties(
        name: str, spelling: str, checkpoint_of: MakeCheckpoint, export_of: MakeExport,
        inputs: Callable[[str], Float]) -> None:
    """Unoptimised, ONNX Runtime computes every pair of Q and DQ in float, as torch does.

    Only ties differ, and in uint8 the int32 biases: half a step and one step of the largest output on average, and for
    single values, behind many layers, some.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = export_of(name, spelling) / "model.onnx"
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    found, = session.run(None, {"input": inputs(name)})
    with torch.no_grad():
        expected = checkpoint_of(name, True).net(torch.from_numpy(inputs(name)))[0].numpy()
    steps = {"int8": 0.5, "uint8": 1.0}[spelling]
    assert np.abs(found - expected).mean() < steps / 127 * np.abs(expected).max()
    assert np.abs(found - expected).max() < 5 / 127 * np.abs(expected).max()


@each_network
@pytest.mark.parametrize(("spelling", "dtype", "zero"), [("int8", np.int8, 0), ("uint8", np.uint8, 128)])
def test_activations_have_the_zero_point_of_their_spelling(
        name: str, spelling: str, dtype: type, zero: int, export_of: MakeExport) -> None:
    graph, constants = graph_of(export_of(name, spelling))
    seen = 0
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in constants:
            point = constants[node.input[2]]
            assert point.dtype == dtype
            assert point.shape == ()
            assert point == zero
            assert constants[node.input[1]].shape == ()
            seen += 1
    assert seen > 20


@each_network
@pytest.mark.parametrize("spelling", ["int8", "uint8"])
def test_weights_are_int8_integers_per_channel_and_none_of_them_is_stored_in_float(
        name: str, spelling: str, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    graph, constants = graph_of(export_of(name, spelling))
    made_by = {output: node for node in graph.node for output in node.output}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    integer = [node for node in convs if node.input[1] not in constants]
    network = quant_convs(checkpoint_of(name, True).net)
    assert len(integer) == len(network)
    assert len(convs) - len(integer) == 1
    levels_in_torch = Counter((tuple(conv.weight.shape), int(levels_of(conv).sum())) for conv in network.values())
    levels_in_file: Counter[tuple[tuple[int, ...], int]] = Counter()
    for node in integer:
        dequantize = made_by[node.input[1]]
        assert dequantize.op_type == "DequantizeLinear"
        weight, scale = constants[dequantize.input[0]], constants[dequantize.input[1]]
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)
        assert [attribute.i for attribute in dequantize.attribute if attribute.name == "axis"] == [0]
        assert len(dequantize.input) < 3 or not constants[dequantize.input[2]].any()
        levels_in_file[weight.shape, int(weight.astype(np.int64).sum())] += 1
    assert levels_in_file == levels_in_torch
    largest_float = max((array.size for array in constants.values()
                         if array.dtype == np.float32 and array.ndim == 4), default=0)
    assert largest_float == next(iter(constants[node.input[1]] for node in convs if node.input[1] in constants)).size


def levels_of(conv: torch.nn.Conv2d) -> torch.Tensor:
    return (conv.weight / conv.weight_scale.reshape(-1, 1, 1, 1)).round().clamp(-128, 127)  # type: ignore[operator]


@each_network
def test_biases_are_int32_on_the_grid_of_the_accumulator_for_onnx_runtime(name: str, export_of: MakeExport) -> None:
    graph, constants = graph_of(export_of(name, "uint8"))
    made_by = {output: node for node in graph.node for output in node.output}
    seen = 0
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] not in constants:
            x, w, b = (made_by[name] for name in node.input)
            np.testing.assert_allclose(constants[b.input[1]], constants[x.input[1]] * constants[w.input[1]], rtol=1e-6)
            assert constants[b.input[0]].dtype == np.int32
            seen += 1
    assert seen > 10


@each_network
def test_onnx_runtime_computes_every_convolution_but_the_head_in_integers(
        tmp_path: Path, name: str, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    """What makes the uint8 spelling fast; one convolution that falls back costs more than it saves."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    path = export_of(name, "uint8") / "model.onnx"
    onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    integer = len(quant_convs(checkpoint_of(name, True).net))
    assert operators["QLinearConv"] == integer
    in_float = operators["Conv"] + operators["FusedConv"] + operators["NhwcFusedConv"]
    assert in_float == 1
    assert operators["Relu"] == 0


SMALL_HRNET = {"width": 16, "branches": 2, "blocks": 1, "modules": 1}
FAMILIES = {"hrnet": tiny.Model("hrnet_lite", options=SMALL_HRNET),
            "se": tiny.Model("hrnet_lite", options={**SMALL_HRNET, "attention": "se"}),
            "unet": tiny.Model("unet", options={"width": 16, "depth": 3, "upsample": "transposed"})}


def quantized_checkpoint(folder: Path, family: str, change: Callable[[torch.nn.Module], None] = lambda _: None,
                         **settings: Any) -> Checkpoint:
    """A network of random weights on the grid, stored and loaded."""
    torch.manual_seed(0)
    net, spec, contract = tiny.network(tiny.recipe(model=FAMILIES[family]))
    change(net)
    for name in ("float", "int8"):
        (folder / name).mkdir()
    save_checkpoint(folder / "float", net, spec, contract)
    found = quantize_network(load_checkpoint(folder / "float"), Quantize("quantize", **settings),
                             torch.randn(16, 3, 64, 64))
    save_checkpoint(folder / "int8", found.net, found.spec, contract)
    return load_checkpoint(folder / "int8")


def differences(checkpoint: Checkpoint, folder: Path) -> np.ndarray:
    """Of a file, as ONNX Runtime runs it by default, from its network, of the largest output."""
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        expected = checkpoint.net(x)[0].numpy()
    found = next(iter(open_session(open_artifact(folder)).infer(x.numpy()).values()))
    return np.abs(found - expected) / np.abs(expected).max()


@pytest.mark.parametrize("spelling", ["int8", "uint8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_sums_products_concatenations_and_deconvolutions_say_what_the_network_says(
        tmp_path: Path, family: str, spelling: str) -> None:
    checkpoint = quantized_checkpoint(tmp_path, family)
    export_checkpoint(checkpoint, tmp_path / "file", target_named({"int8": "jetson", "uint8": "cpu"}[spelling]), 17)
    found = differences(checkpoint, tmp_path / "file")
    assert found.mean() < 0.5 / 127  # 10 layers, and ties alone differ
    assert found.max() < 4 / 127


def test_a_deconvolution_is_stored_as_integers_with_a_scale_for_each_output_channel(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint(tmp_path, "unet")
    export_checkpoint(checkpoint, tmp_path / "file", target_named("jetson"), 17)
    graph, constants = graph_of(tmp_path / "file")
    made_by = {output: node for node in graph.node for output in node.output}
    node, = (node for node in graph.node if node.op_type == "ConvTranspose")
    dequantize = made_by[node.input[1]]
    weight = constants[dequantize.input[0]]
    assert weight.dtype == np.int8
    assert [attribute.i for attribute in dequantize.attribute if attribute.name == "axis"] == [1]
    assert constants[dequantize.input[1]].shape == (weight.shape[1],)
    assert np.abs(weight.astype(int)).max(axis=(0, 2, 3)).tolist() == [127] * weight.shape[1]


def test_activations_of_16_bits_run_in_onnx_runtime_and_are_finer(tmp_path: Path) -> None:
    wide = ("backbone", "add", "add_1", "add_2")
    checkpoint = quantized_checkpoint(tmp_path, "hrnet", int16=wide)
    export_checkpoint(checkpoint, tmp_path / "file", target_named("cpu"), 17)
    graph, constants = graph_of(tmp_path / "file")
    points = {constants[node.input[2]].dtype for node in graph.node if node.op_type == "QuantizeLinear"}
    assert points == {np.dtype(np.int16), np.dtype(np.uint8)}
    assert differences(checkpoint, tmp_path / "file").max() < 1 / 127


def test_activations_of_16_bits_are_refused_for_tensorrt(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint(tmp_path, "hrnet", int16=("backbone.stem",))
    with pytest.raises(ArtifactError, match=r"2 activations have 16 bits, .* TensorRT has no 16-bit integers"):
        export_checkpoint(checkpoint, tmp_path / "file", target_named("jetson"), 17)


@torch.no_grad()
def test_a_dead_layer_does_not_swallow_the_biases_behind_it(tmp_path: Path) -> None:
    """They are int32 at the scale of input times weights: with a scale near zero, none of them would fit."""
    def kill(net: torch.nn.Module) -> None:
        norm = net.get_submodule("backbone.stages.0.0.branches.0.0.body.0.1")
        norm.weight.zero_()  # type: ignore[operator, union-attr]
        norm.bias.fill_(-1.0)  # type: ignore[operator, union-attr]

    checkpoint = quantized_checkpoint(tmp_path, "hrnet", kill)
    export_checkpoint(checkpoint, tmp_path / "file", target_named("cpu"), 17)
    assert differences(checkpoint, tmp_path / "file").mean() < 0.5 / 127
