"""From a network to an ONNX file: batch norm folded, batch size free or 1, weights embedded. Knows no target."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Literal

import onnx
import onnxslim
import torch
from torch import Tensor, nn

from deploy.export.int16 import sixteen_bits_allowed
from edgekp.contract import AnyContract
from edgekp.errors import ArtifactError

INPUT_NAME = "input"
Batch = Literal["free", 1]


def to_onnx(net: nn.Module, contract: AnyContract, opset: int, batch: Batch = "free") -> onnx.ModelProto:
    """The network as ONNX, checked; a fake-quantized network comes out with Q/DQ pairs."""
    example = torch.zeros(2 if batch == "free" else 1, 3, *contract.input.input_hw)
    return module_to_onnx(net, example, (INPUT_NAME, *contract.outputs), opset, batch)


def module_to_onnx(module: nn.Module, example: Tensor, names: tuple[str, ...], opset: int,
                   batch: Batch) -> onnx.ModelProto:
    """Any module as ONNX; ``names`` are those of its input and its outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of shapes that the contract fixes
        with tempfile.TemporaryDirectory() as folder, sixteen_bits_allowed():
            path = Path(folder) / "model.onnx"
            torch.onnx.export(module.eval().cpu(), (example,), path, dynamo=False, opset_version=opset,
                              input_names=names[:1], output_names=names[1:],
                              dynamic_axes={name: {0: "batch"} for name in names} if batch == "free" else None)
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
