"""From a network to an ONNX file: batch norm folded, batch size free, weights embedded."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import onnxslim
import torch
from torch import nn

from deploy.export.int16 import sixteen_bits_allowed
from edgekp.contract import AnyContract
from edgekp.errors import ArtifactError

INPUT_NAME = "input"


def to_onnx(net: nn.Module, contract: AnyContract, opset: int) -> onnx.ModelProto:
    """The network as ONNX, simplified and checked; a fake-quantized network comes out with Q/DQ pairs."""
    example = torch.zeros(2, 3, *contract.input.input_hw)
    names = [INPUT_NAME, *contract.outputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of shapes that the contract fixes
        with tempfile.TemporaryDirectory() as folder, sixteen_bits_allowed():
            path = Path(folder) / "model.onnx"
            torch.onnx.export(net.eval().cpu(), (example,), path, dynamo=False, opset_version=opset,
                              input_names=names[:1], output_names=names[1:],
                              dynamic_axes={name: {0: "batch"} for name in names})
            model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return model


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and drop what does nothing; refuse a result that the checker does not accept."""
    slim = onnxslim.slim(model)
    if not isinstance(slim, onnx.ModelProto):
        raise ArtifactError("the simplifier gave no model; this is a defect of onnxslim for this graph")
    onnx.checker.check_model(slim, full_check=True)
    return slim
