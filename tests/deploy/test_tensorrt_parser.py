"""NVIDIA's own parser and builder on our exports, without a GPU: TensorRT-RTX builds engines on any x86-64 Linux."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from deploy.export.qdq import SPELLINGS, store_integer_weights
from edgekp.codecs import Heatmap
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.skeletons import COCO17
from optimize.calibration import calibrate
from optimize.ptq import set_weight_scales
from train.models import ModelSpec, build
from train.models.quantized import QuantizationSpec, insert_fake_quantizers

trt: Any = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra: tensorrt-check)")

HW = (64, 64)


def exported(spelling: str | None) -> onnx.ModelProto:
    """A small HRNet-lite as ONNX; on the int8 grid where a spelling is given."""
    torch.manual_seed(0)
    net = build(ModelSpec("hrnet_lite", "heatmap", 17, HW, {"width": 8, "blocks": 1, "modules": 1})).eval()
    contract = Contract(InputSpec(HW), Heatmap(HW), COCO17)
    if spelling is None:
        return simplify(to_onnx(net, contract, 17))
    grid = insert_fake_quantizers(net, QuantizationSpec(("head.output",)))
    set_weight_scales(grid)
    calibrate(grid, torch.randn(8, 3, *HW), "minmax")
    model = to_onnx(grid, contract, 17)
    store_integer_weights(model)
    SPELLINGS[spelling](model)
    return model


def parse(model: onnx.ModelProto, path: Path) -> tuple[Any, Any, Any, bool]:
    onnx.save(model, path)
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    return builder, network, parser, parser.parse_from_file(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [None, "int8"])
def test_builds_an_engine_from_what_the_jetson_gets(spelling: str | None, tmp_path: Path) -> None:
    builder, network, _, parsed = parse(exported(spelling), tmp_path / "model.onnx")
    assert parsed
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("input", (1, 3, *HW), (1, 3, *HW), (4, 3, *HW))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert engine.nbytes > 10_000


def test_refuses_the_spelling_of_the_cpu_target(tmp_path: Path) -> None:
    _, _, parser, parsed = parse(exported("uint8"), tmp_path / "model.onnx")
    assert not parsed
    assert "zero point" in parser.get_error(0).desc()
