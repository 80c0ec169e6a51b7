"""NVIDIA's own parser and builder on our exports, without a GPU: TensorRT-RTX builds engines on any x86-64 Linux.

Also the second judge of the linter: what it calls an error for TensorRT is refused, or read as something else.
"""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from deploy.export.checkpoint_to_onnx import module_to_onnx, simplify, to_onnx
from deploy.export.embed import Embedded, embedded_outputs, example_input
from deploy.export.float16 import FIRST_OPSET_WITH_FLOAT16_SCALES, in_float16
from deploy.export.qdq import store_integer_weights
from deploy.export.qdq_lint.mend import mended
from deploy.export.qdq_lint.rules import lint
from edgekp.contract import Contract
from tests import tiny
from tests.deploy import planted
from tests.deploy.planted import PLANTS, Plant
from tests.deploy.quantized_networks import NETWORKS, on_the_grid, spelled
from train.models import BACKBONES

trt: Any = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra: tensorrt-check)")


def parse(model: onnx.ModelProto) -> tuple[Any, Any, Any, bool]:
    """Logger, builder, network and parser must outlive each other, so that all are returned."""
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    return builder, network, parser, parser.parse(model.SerializeToString())


def builds(model: onnx.ModelProto) -> bool:
    """Whether NVIDIA's parser and its builder both take a model."""
    builder, network, _, parsed = parse(model)
    if not parsed:
        return False
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    profile.set_shape(model.graph.input[0].name, (1, *shape), (1, *shape), (1, *shape))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return engine is not None and engine.nbytes > 10_000


def test_no_backbone_is_left_out() -> None:
    assert {recipe.model.backbone for recipe in NETWORKS.values()} == set(BACKBONES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_builds_an_engine_from_every_quantized_network_and_the_linter_agrees(name: str) -> None:
    model = spelled(name, "int8")
    assert [finding for finding in lint(model, ("tensorrt",)) if finding.severity == "error"] == []
    assert builds(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hrnet_lite", "resnet, deconv, offset"])
def test_builds_an_engine_from_a_float_network(name: str) -> None:
    net, _, contract = tiny.network(NETWORKS[name])
    assert isinstance(contract, Contract)
    assert builds(simplify(to_onnx(net, contract, 17)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_builds_an_engine_in_float16_from_every_quantized_network(name: str) -> None:
    net, contract, _ = on_the_grid(name)
    model = to_onnx(net, contract, FIRST_OPSET_WITH_FLOAT16_SCALES)
    store_integer_weights(model)
    assert builds(in_float16(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hrnet_lite", "mobilenet_v3, deconv", "pfld"])
def test_builds_an_engine_in_float16_from_a_float_network(name: str) -> None:
    """The types of a strongly typed network are those of the file, so that no precision flag is needed."""
    net, _, contract = tiny.network(NETWORKS[name])
    model = in_float16(simplify(to_onnx(net, contract, 17)))
    _, network, _, parsed = parse(model)
    assert parsed
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    assert {layer.get_output(0).dtype for layer in layers
            if layer.type == trt.LayerType.CONVOLUTION} == {trt.DataType.HALF}
    assert builds(model)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["heatmap", "offset", "simcc", "integral", "regression"])
def test_builds_an_engine_from_a_network_with_preprocessing_and_decoding_in_it(codec: str) -> None:
    model = tiny.FACENET if codec == "regression" else tiny.HRNET
    net, _, contract = tiny.network(tiny.recipe(model=model, codec=codec))
    parts = ("preprocess", "decode")
    name, example = example_input(contract, parts, 2)
    names = (name, *embedded_outputs(contract, parts))
    assert builds(simplify(module_to_onnx(Embedded(net, contract, parts), example, names, 17, "free")))


def test_refuses_the_spelling_of_the_cpu_target_as_the_linter_does() -> None:
    model = spelled("hrnet_lite", "uint8")
    _, _, parser, parsed = parse(model)
    assert not parsed
    assert "zero point" in parser.get_error(0).desc()
    assert "zero_point" in {finding.rule for finding in lint(model, ("tensorrt",))}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hrnet_lite", "resnet, fpn, offset"])
def test_builds_an_engine_from_the_cpu_spelling_once_it_is_mended(name: str) -> None:
    result, _ = mended(spelled(name, "uint8"), "tensorrt")
    assert builds(result)


REFUSED = [plant for plant in PLANTS if plant.rule in ("scale", "zero_point", "int32_bias", "int16")]


@pytest.mark.parametrize("plant", REFUSED, ids=lambda plant: plant.make.__name__)
def test_what_the_linter_calls_an_error_is_refused(plant: Plant) -> None:
    assert "error" in {finding.severity for finding in lint(plant.model(), ("tensorrt",))}
    assert not builds(plant.model())


@pytest.mark.slow
@pytest.mark.parametrize("plant", [plant for plant in REFUSED if plant.mended], ids=lambda plant: plant.make.__name__)
def test_what_the_linter_mended_is_taken(plant: Plant) -> None:
    assert builds(mended(plant.model(), plant.target)[0])


@pytest.mark.slow
@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant.target == "tensorrt" and lint(
    plant.model(), ("tensorrt",))[0].severity == "warning"], ids=lambda plant: plant.make.__name__)
def test_what_the_linter_only_warns_of_is_taken(plant: Plant) -> None:
    assert builds(plant.model())


def test_unsigned_levels_with_zero_point_0_are_read_as_signed_without_a_word() -> None:
    """The upper half of the levels would be clipped, so the linter says error where the parser says nothing."""
    _, network, _, parsed = parse(planted.asymmetric(planted.tensorrt()))
    assert parsed
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = {layer.get_output(0).dtype for layer in layers if layer.type == trt.LayerType.QUANTIZE}
    assert types == {trt.DataType.INT8}
