"""TFLite exports say what their networks say, on the very grid of the network where they are int8."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgekp.artifact import open_artifact, verify_artifact
from edgekp.errors import ArtifactError
from tests import tiny, tiny_scenes
from train.models import BACKBONES, HEADS, build, spec_of
from train.models.checkpoint import Checkpoint
from train.models.fake_quantize import fake_quantizers, quant_convs

pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from deploy.export.to_tflite import to_tflite
from deploy.runtime.session import open_session
from deploy.runtime.tflite_session import TFLiteSession
from edgekp.recipe import Model
from eval.latency import time_in_fresh_process

MakeCheckpoint = Callable[[str, bool], Checkpoint]
MakeExport = Callable[[str, str], Path]
NETWORKS = ["hrnet", "mobilefacenet"]
OPSET = 17


@pytest.fixture(scope="session")
def tflite_of(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: MakeCheckpoint) -> MakeExport:
    """Artifact folder of a checkpoint for a target; ``int8`` is the quantized network for ``tflite``."""
    made: dict[tuple[str, str], Path] = {}

    def make(name: str, target: str) -> Path:
        if (name, target) not in made:
            folder = tmp_path_factory.mktemp("tflite") / "artifact"
            integer = target == "int8"
            wanted = target_named("tflite" if integer else target)
            export_checkpoint(checkpoint_of(name, integer), folder, wanted, OPSET)
            made[name, target] = folder
        return made[name, target]
    return make


def noise(net: Checkpoint, count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 3, *net.spec.input_hw)).astype(np.float32)


def operators(data: bytes) -> Counter[str]:
    """How often each operator occurs; DELEGATE is a partition that XNNPACK took."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    return Counter(operator["op_name"] for operator in interpreter._get_ops_details())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_float_file_equals_its_network_at_every_batch_size(
        name: str, batch: int, checkpoint_of: MakeCheckpoint, tflite_of: MakeExport) -> None:
    checkpoint = checkpoint_of(name, False)
    x = noise(checkpoint, batch)
    with torch.no_grad():
        expected = checkpoint.net(torch.from_numpy(x))[0].numpy()
    found, = open_session(open_artifact(tflite_of(name, "tflite"))).infer(x).values()
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


SMALL: dict[str, dict[str, Any]] = {
    "hrnet_lite": {"width": 8, "branches": 2, "blocks": 1, "modules": 1, "attention": "cbam"},
    "mobilefacenet": {"activation": "prelu"}, "resnet": {"width": 8}, "unet": {"width": 8, "upsample": "transposed"},
    "lite_hrnet": {"depth": 10, "width": 16, "branches": 2}, "mobilenet_v3": {"width": 0.25},
    "shufflenet_v2": {"width": 0.5}, "pfld": {"width": 0.25}}
PAIRS = [("hrnet_lite", "", "heatmap", "heatmap"), ("hrnet_lite", "", "cpm", "heatmap"),
         ("hrnet_lite", "", "offset", "offset"), ("lite_hrnet", "", "udp_combined", "udp_combined"),
         ("unet", "", "simcc", "simcc"), ("resnet", "fpn", "rtmcc", "simcc"),
         ("mobilefacenet", "", "integral", "regression"), ("pfld", "", "multi_scale", "regression"),
         ("shufflenet_v2", "deconv", "gdconv", "regression"), ("mobilenet_v3", "deconv", "heatmap", "heatmap")]


def test_every_backbone_and_head_is_tried() -> None:
    assert {pair[0] for pair in PAIRS} == set(BACKBONES)
    assert {pair[2] for pair in PAIRS} | {"openpose"} == set(HEADS)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "neck", "head", "codec"), PAIRS)
def test_every_part_converts_to_one_partition_that_says_the_same(
        backbone: str, neck: str, head: str, codec: str) -> None:
    torch.manual_seed(0)
    wide = {"channels": 16} if neck else {}
    model = Model(backbone, options=SMALL[backbone], head=head, neck=neck, neck_options=wide)
    net, spec, contract = tiny.network(tiny.recipe((64, 64), model, codec))
    x = np.random.default_rng(0).normal(size=(1, 3, *spec.input_hw)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x))
    data = to_tflite(net, spec.input_hw, contract.outputs).data
    found = TFLiteSession(data, contract.outputs, "here").infer(x)
    for array, tensor in zip(found.values(), expected, strict=True):
        assert np.abs(array - tensor.numpy()).max() < 2e-5 * np.abs(tensor.numpy()).max()
    assert operators(data)["DELEGATE"] == 1


def test_the_maps_of_whole_scenes_convert() -> None:
    torch.manual_seed(0)
    recipe = tiny_scenes.recipe()
    spec, contract = spec_of(recipe), recipe.contract()
    net = build(spec).eval()
    x = torch.randn(1, 3, *spec.input_hw)
    with torch.no_grad():
        expected = net(x)
    data = to_tflite(net, spec.input_hw, contract.outputs).data
    found = TFLiteSession(data, contract.outputs, "here").infer(x.numpy())
    assert tuple(found) == ("heatmaps", "pafs")
    for array, tensor in zip(found.values(), expected, strict=True):
        assert np.abs(array - tensor.numpy()).max() < 1e-5 * np.abs(tensor.numpy()).max()


def test_a_spatial_transformer_is_refused_by_name() -> None:
    recipe = tiny.recipe((32, 32), Model("mobilefacenet", transformer=True), "regression")
    net, spec, contract = tiny.network(recipe)
    with pytest.raises(ArtifactError, match=r"tflite: .*no counterpart of"):
        to_tflite(net, spec.input_hw, contract.outputs)


@pytest.mark.parametrize("target", ["tflite", "int8"])
def test_a_map_needs_no_transpose_and_one_partition(target: str, tflite_of: MakeExport) -> None:
    found = operators(open_artifact(tflite_of("hrnet", target)).model_path.read_bytes())
    assert found["DELEGATE"] == 1
    assert found["TRANSPOSE"] == found["RELU"] == 0, "ReLUs are part of convolutions and sums"
    assert found["QUANTIZE"] == found["DEQUANTIZE"] == (target == "int8"), "the input and the head alone change type"


def grids(data: bytes) -> dict[str, dict[str, Any]]:
    """Quantization of every int8 and int32 tensor of a file that has one, by name."""
    interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True,
                              experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return {detail["name"]: detail["quantization_parameters"] | {"dtype": detail["dtype"]}
            for detail in interpreter.get_tensor_details() if len(detail["quantization_parameters"]["scales"])}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_has_the_networks_scales_to_the_last_bit(
        name: str, checkpoint_of: MakeCheckpoint, tflite_of: MakeExport) -> None:
    net, found = checkpoint_of(name, True).net, grids(open_artifact(tflite_of(name, "int8")).model_path.read_bytes())
    assert all((grid["zero_points"] == 0).all() for grid in found.values())
    constant = {key for key in found if key.endswith(("_weight", "_bias"))}
    expected = {np.float32(quantizer.scale) for quantizer in fake_quantizers(net).values()}
    assert {np.float32(grid["scales"][0]) for key, grid in found.items() if key not in constant} == expected
    layers = quant_convs(net)
    for layer_name, layer in layers.items():
        grid = found[f"{layer_name.replace('.', '_')}_weight"]
        np.testing.assert_array_equal(grid["scales"], layer.weight_scale.numpy())
        assert grid["dtype"] == np.int8
    assert len(constant) == 2 * len(layers)


def test_the_file_has_the_scales_of_the_qdq_model(export_of: MakeExport, tflite_of: MakeExport) -> None:
    model = onnx.load(open_artifact(export_of("hrnet", "int8")).model_path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    expected = {float(constants[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"}
    found = grids(open_artifact(tflite_of("hrnet", "int8")).model_path.read_bytes())
    assert {float(grid["scales"][0]) for key, grid in found.items()
            if not key.endswith(("_weight", "_bias"))} == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_says_what_the_rounded_network_says_and_reference_kernels_agree(
        name: str, checkpoint_of: MakeCheckpoint, tflite_of: MakeExport) -> None:
    checkpoint = checkpoint_of(name, True)
    data, x = open_artifact(tflite_of(name, "int8")).model_path.read_bytes(), noise(checkpoint, 1)
    with torch.no_grad():
        expected = checkpoint.net(torch.from_numpy(x))[0].numpy()
    found, = TFLiteSession(data, checkpoint.contract.outputs, "here").infer(x).values()
    plain = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    plain.allocate_tensors()
    plain.set_tensor(plain.get_input_details()[0]["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    plain.invoke()
    reference = plain.get_tensor(plain.get_output_details()[0]["index"])
    reference = reference.transpose(0, 3, 1, 2) if reference.ndim == 4 else reference
    for array in (found, reference):
        assert np.abs(array - expected).mean() < 0.01 * np.abs(expected).max()


@pytest.mark.slow
def test_a_sound_int8_file_with_prelu_and_coordinates_is_not_refused(tflite_of: MakeExport) -> None:
    """Its keypoints are read from one vector, and half of its layers stay in float: it passes the check of exports."""
    assert verify_artifact(tflite_of("prelu", "int8")).model["precision"] == "int8"


def test_the_manifest_says_what_is_integer(tflite_of: MakeExport) -> None:
    model = verify_artifact(tflite_of("hrnet", "int8")).model
    assert (model["file"], model["precision"], model["scales"]) == ("model.tflite", "int8", "own")
    assert model["float_layers"] == ["head.output"]
    assert "opset" not in model


@pytest.mark.parametrize(("target", "precision", "share"), [
    ("tflite", "fp32", 1.0), ("tflite-fp16", "fp16", 0.6), ("tflite-dynamic", "dynamic", 0.45), ("int8", "int8", 0.45)])
def test_a_narrower_type_takes_fewer_bytes(target: str, precision: str, share: float, tflite_of: MakeExport) -> None:
    whole, artifact = (open_artifact(tflite_of("hrnet", name)) for name in ("tflite", target))
    assert artifact.model["precision"] == precision
    assert artifact.size_bytes <= share * whole.size_bytes


def sound(tflite_of: MakeExport) -> bytes:
    return open_artifact(tflite_of("hrnet", "tflite")).model_path.read_bytes()


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no model", lambda data: b"\0\0\0\0TFL3",
                                    lambda data: data[:len(data) // 2], lambda data: data[:4] + b"TFL4" + data[8:]])
def test_a_file_that_is_no_model_is_refused(damage: Callable[[bytes], bytes], tflite_of: MakeExport) -> None:
    with pytest.raises(ArtifactError, match=r"model\.tflite: (no TFLite file|the TFLite runtime refuses)") as refusal:
        TFLiteSession(damage(sound(tflite_of)), ("heatmaps",), "model.tflite")
    assert "\n" not in str(refusal.value)


def test_other_outputs_than_the_codec_decodes_are_refused(tflite_of: MakeExport) -> None:
    with pytest.raises(ArtifactError, match=r"outputs \['heatmaps'\], expected \['simcc_x', 'simcc_y'\]; export"):
        TFLiteSession(sound(tflite_of), ("simcc_x", "simcc_y"), "model.tflite")


def test_opening_a_model_says_nothing(tflite_of: MakeExport, capfd: pytest.CaptureFixture[str]) -> None:
    TFLiteSession(sound(tflite_of), ("heatmaps",), "model.tflite").close()
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n"


def test_without_its_package_the_extra_is_named(tflite_of: MakeExport, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sound(tflite_of)
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArtifactError, match=r"run: pip install 'edgekp\[tflite\]'"):
        TFLiteSession(data, ("heatmaps",), "model.tflite")
    with pytest.raises(ArtifactError, match=r"run: pip install 'edgekp\[tflite\]'"):
        to_tflite(torch.nn.Conv2d(3, 4, 1), (8, 8), ("heatmaps",))


@pytest.mark.slow
def test_latency_is_measured_with_this_runtime(tflite_of: MakeExport) -> None:
    times = time_in_fresh_process([tflite_of("hrnet", "tflite"), tflite_of("hrnet", "int8")], seed=0, rounds=20)
    assert times.runtime.startswith("ai_edge_litert 2.")
    assert (times.clock, times.threads, times.cpu_ms.shape) == ("thread_cpu", 1, (2, 20))
    assert (times.cpu_ms > 0).all()
