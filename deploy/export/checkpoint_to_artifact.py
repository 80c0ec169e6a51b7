"""From a checkpoint to the folder that a device is given: the file in the target's format, verified, and a manifest."""

from __future__ import annotations

from pathlib import Path

from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from deploy.export.qdq import SPELLINGS, store_integer_weights
from deploy.export.target import Target
from deploy.export.verify import verify_export
from edgekp.artifact import write_artifact
from edgekp.atomic import write_file
from train.models.checkpoint import Checkpoint

MODEL_FILE = "model.onnx"


def export_checkpoint(checkpoint: Checkpoint, folder: Path, target: Target, opset: int) -> dict[str, float]:
    """Write one artifact and compare it with its network; the differences found."""
    model = to_onnx(checkpoint.net, checkpoint.contract, opset)
    if checkpoint.spec.quantization:
        store_integer_weights(model)
        SPELLINGS[target.spelling](model)
    else:
        model = simplify(model)
    folder.mkdir(exist_ok=True)
    write_file(folder / MODEL_FILE, model.SerializeToString())
    facts = {name: checkpoint.artifact.model[name] for name in ("precision", "parameters", "macs")}
    write_artifact(folder, target.format, checkpoint.contract, {
        "file": MODEL_FILE, "target": target.name, "opset": opset,
        "spelling": target.spelling if checkpoint.spec.quantization else None, **facts})
    return verify_export(folder, checkpoint.net)
