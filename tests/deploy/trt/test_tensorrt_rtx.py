"""Our builder with NVIDIA's own parser and builder, without a GPU: TensorRT-RTX builds engines on any x86-64 Linux."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from deploy.export.float16 import in_float16
from deploy.export.target import target_named
from deploy.runtime.trt.builder import Built, build
from deploy.runtime.trt.engine import TrtEngine
from deploy.runtime.trt.order import Order, request_of
from edgekp.artifact import Artifact, open_artifact
from edgekp.atomic import sha256
from edgekp.errors import EngineError
from tests import tiny
from tests.deploy.quantized_networks import NETWORKS, spelled

MakeArtifact = Callable[[str], Artifact]

trt: Any = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra: tensorrt-check)")


def built(artifact: Artifact, order: Order = Order()) -> Built:  # noqa: B008
    return build(artifact, request_of(order, artifact, trt), trt)


def built_from(model: onnx.ModelProto, folder: Path, like: Artifact, **facts: str) -> Built:
    """The engine of a model in the place of an artifact's; whose contract it is does not matter to TensorRT."""
    onnx.save(model, folder / "model.onnx")
    facts = {"file": "model.onnx", **facts}
    order = Order("fp32") if facts["precision"] == "fp32" else Order()
    return built(replace(like, folder=folder, model=facts, files={"model.onnx": sha256(folder / "model.onnx")}), order)


@pytest.mark.parametrize(("precision", "order"), [("float", Order("fp32")), ("float", Order()), ("int8", Order())],
                         ids=["fp32", "fp16", "int8"])
def test_every_precision_of_a_jetson_export_is_built(copy_of: MakeArtifact, precision: str, order: Order) -> None:
    found = built(copy_of(precision), order)
    assert len(found.engine) > 10_000
    assert found.timing_cache


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_engine_of_every_backbone_is_built_float_and_on_the_int8_grid(tmp_path: Path, artifact: Artifact,
                                                                        name: str) -> None:
    net, _, contract = tiny.network(NETWORKS[name])
    model = simplify(to_onnx(net, contract, 17))
    engines = [built_from(model, tmp_path, artifact, precision="fp32"),
               built_from(in_float16(model), tmp_path, artifact, precision="fp32"),
               built_from(spelled(name, "int8"), tmp_path, artifact, precision="int8")]
    assert all(len(engine.engine) > 10_000 for engine in engines)


def test_the_spelling_of_the_cpu_target_is_refused_in_the_parsers_words(tmp_path: Path, artifact: Artifact) -> None:
    with pytest.raises(EngineError, match=r"model.onnx: TensorRT's parser refuses it: .*Non-zero zero point"):
        built_from(spelled("hrnet_lite", "uint8"), tmp_path, artifact, precision="int8")


def test_one_zero_point_that_is_not_zero_is_refused(tmp_path: Path, artifact: Artifact) -> None:
    model = spelled("hrnet_lite", "int8")
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    for tensor in model.graph.initializer:
        if tensor.name == quantize.input[2]:
            tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), tensor.name))
    with pytest.raises(EngineError, match="Non-zero zero point is not supported"):
        built_from(model, tmp_path, artifact, precision="int8")


def test_an_operator_that_tensorrt_does_not_know_is_refused(tmp_path: Path, artifact: Artifact) -> None:
    model = onnx.load(artifact.model_path)
    model.graph.node[1].op_type = "Bogus"
    with pytest.raises(EngineError, match=r"parser refuses it: .*Plugin not found") as refusal:
        built_from(model, tmp_path, artifact, precision="fp32")
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, artifact: Artifact) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    broken = replace(artifact, folder=tmp_path, model={"file": "model.onnx", "precision": "fp32"},
                     files={"model.onnx": sha256(tmp_path / "model.onnx")})
    with pytest.raises(EngineError, match=r"parser refuses it: .+"):
        built(broken, Order("fp32"))


def test_a_profile_that_does_not_fit_the_file_is_said_before_it_is_built(tmp_path: Path, artifact: Artifact) -> None:
    model = onnx.load(artifact.model_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(EngineError, match="is of a fixed batch of 1"):
        built_from(model, tmp_path, artifact, precision="fp32")


def test_a_timing_cache_that_is_damaged_is_begun_anew(artifact: Artifact) -> None:
    (artifact.folder / "timing.cache").write_bytes(b"cut off")
    found = built(artifact, Order("fp32"))
    (artifact.folder / "timing.cache").write_bytes(found.timing_cache)
    assert built(artifact, Order("fp32")).timing_cache


def test_a_dla_is_refused_where_there_is_none(artifact: Artifact) -> None:
    with pytest.raises(EngineError, match="sees 0 DLA cores here"):
        built(artifact, Order(dla=0))


def test_bytes_that_are_no_engine_are_refused_and_not_a_crash() -> None:
    with pytest.raises(EngineError, match=r"there: TensorRT refuses it: .+"):
        TrtEngine(trt, b"no engine" * 100, None, "there", "do")


@pytest.mark.slow
def test_an_export_made_for_a_jetson_from_a_face_network_is_built(tmp_path: Path,
                                                                  checkpoint_of: Callable[[str, bool], Any]) -> None:
    export_checkpoint(checkpoint_of("mobilefacenet", True), tmp_path / "face", target_named("jetson"))
    assert len(built(open_artifact(tmp_path / "face")).engine) > 10_000
