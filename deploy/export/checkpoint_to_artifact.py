"""From a checkpoint to the folder that a device is given: the file in the target's format, verified, and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from deploy.export.qdq import SPELLINGS, store_integer_weights
from deploy.export.qdq_lint.at_export import require_fit
from deploy.export.target import Target
from deploy.export.to_tflite import to_tflite
from deploy.export.verify import verify_export
from edgekp.artifact import write_artifact
from edgekp.atomic import write_file
from train.models.checkpoint import Checkpoint

MODEL_FILE, TFLITE_FILE = "model.onnx", "model.tflite"
PRECISIONS = {"float32": "fp32", "float16": "fp16", "int8": "dynamic"}  # of a float network, by how it is stored


def export_checkpoint(checkpoint: Checkpoint, folder: Path, target: Target, opset: int) -> dict[str, float]:
    """Write one artifact and compare it with its network; the differences found."""
    facts = {name: checkpoint.artifact.model[name] for name in ("precision", "parameters", "macs")}
    integer = checkpoint.spec.quantization is not None
    if target.format == "tflite":
        file, (data, own) = TFLITE_FILE, _tflite(checkpoint, target)
    else:
        file, data, own = MODEL_FILE, _onnx(checkpoint, target, opset), {"opset": opset}
    folder.mkdir(exist_ok=True)
    write_file(folder / file, data)
    write_artifact(folder, target.format, checkpoint.contract, {
        "file": file, "target": target.name, "spelling": target.spelling if integer else None, **facts, **own})
    return verify_export(folder, checkpoint.net)


def _onnx(checkpoint: Checkpoint, target: Target, opset: int) -> bytes:
    model = to_onnx(checkpoint.net, checkpoint.contract, opset)
    if checkpoint.spec.quantization:
        store_integer_weights(model)
        SPELLINGS[target.spelling](model)
        require_fit(model, target.spelling)
    else:
        model = simplify(model)
    return bytes(model.SerializeToString())


def _tflite(checkpoint: Checkpoint, target: Target) -> tuple[bytes, dict[str, Any]]:
    """The file, and what its manifest says of it: whose scales an int8 file has, and which layers are not int8."""
    written = to_tflite(checkpoint.net, checkpoint.contract.input.input_hw, checkpoint.contract.outputs,
                        target.weights)
    if checkpoint.spec.quantization:
        return written.data, {"scales": "own", "float_layers": list(written.float_layers)}
    return written.data, {"precision": PRECISIONS[target.weights]}
