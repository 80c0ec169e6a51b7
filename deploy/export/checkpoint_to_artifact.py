"""From a checkpoint to the folder that a device is given: the file in the target's format, verified, and a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from deploy.export.checkpoint_to_onnx import module_to_onnx, simplify, to_onnx
from deploy.export.embed import DECODE, Embedded, decoder_in_graph, embedded_outputs, example_input
from deploy.export.float16 import FIRST_OPSET_WITH_FLOAT16_SCALES, in_float16
from deploy.export.qdq import SPELLINGS, store_integer_weights
from deploy.export.qdq_lint.at_export import require_fit
from deploy.export.target import Target
from deploy.export.to_tflite import to_tflite
from deploy.export.to_torchscript import to_torchscript
from deploy.export.verify import verify_export
from edgekp.artifact import write_artifact
from edgekp.atomic import write_file
from edgekp.contract import AnyContract
from edgekp.errors import RecipeError
from train.models.checkpoint import Checkpoint

MODEL_FILE, TFLITE_FILE, TORCHSCRIPT_FILE = "model.onnx", "model.tflite", "model.torchscript"
FP16_FILE, EMBEDDED_FILE = "model_fp16.onnx", "model_embedded.onnx"  # beside MODEL_FILE
PRECISIONS = {"float32": "fp32", "float16": "fp16", "int8": "dynamic"}  # of a float network, by how it is stored


@dataclass(frozen=True)
class Order:
    """What is to be made of a checkpoint: settings of the target, and those of the recipe that take their place."""

    target: Target
    opset: int
    embed: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """The bytes of an artifact's files by name, the model's first, and what its manifest says of them."""

    data: dict[str, bytes]
    facts: dict[str, Any]


def export_checkpoint(checkpoint: Checkpoint, folder: Path, target: Target, opset: int | None = None,
                      embed: tuple[str, ...] = ()) -> dict[str, float]:
    """Write one artifact and compare its files with its network; the differences found.

    Args:
        opset: of ONNX files; by default the target's.
        embed: what a second ONNX file holds beside the network, see ``edgekp.recipe.Export``.
    """
    require_embeddable(checkpoint.contract, target, embed)
    facts = {name: checkpoint.artifact.model[name] for name in ("precision", "parameters", "macs")}
    written = WRITERS[target.format](checkpoint, Order(target, opset or target.opset, embed))
    folder.mkdir(exist_ok=True)
    for name, data in written.data.items():
        write_file(folder / name, data)
    spelling = target.spelling if _is_integer(checkpoint) and target.format != "torchscript" else None
    write_artifact(folder, target.format, checkpoint.contract, {
        "file": next(iter(written.data)), "target": target.name, "spelling": spelling, **facts, **written.facts})
    return verify_export(folder, checkpoint.net)


def require_embeddable(contract: AnyContract, target: Target, embed: tuple[str, ...]) -> None:
    """Refuse what the target's format or the contract's codec cannot have in its graph.

    Raises:
        RecipeError: It cannot.
    """
    if embed and target.format != "onnx":
        raise RecipeError(f"export.embed: {list(embed)}, but target '{target.name}' has no ONNX file to embed it in; "
                          "leave it out, or choose a target of format 'onnx'")
    if DECODE in embed:
        decoder_in_graph(contract)


def _is_integer(checkpoint: Checkpoint) -> bool:
    return checkpoint.spec.quantization is not None


def _onnx(checkpoint: Checkpoint, order: Order) -> Files:
    """The model, and beside it what the target and the recipe ask for."""
    def exported(opset: int) -> onnx.ModelProto:
        return finished(to_onnx(checkpoint.net, checkpoint.contract, opset, order.target.batch))

    def finished(model: onnx.ModelProto) -> onnx.ModelProto:
        if not _is_integer(checkpoint):
            return simplify(model)
        store_integer_weights(model)
        SPELLINGS[order.target.spelling](model)
        require_fit(model, order.target.spelling)
        return model

    models = {MODEL_FILE: exported(order.opset)}
    facts: dict[str, Any] = {"opset": order.opset}
    if order.target.float16:
        opset = max(order.opset, FIRST_OPSET_WITH_FLOAT16_SCALES) if _is_integer(checkpoint) else order.opset
        models[FP16_FILE] = in_float16(models[MODEL_FILE] if opset == order.opset else exported(opset))
        facts |= {"fp16_file": FP16_FILE, "fp16_opset": opset}
    if order.embed:
        models[EMBEDDED_FILE] = finished(_embedded(checkpoint, order))
        facts |= {"embedded_file": EMBEDDED_FILE, "embedded": list(order.embed)}
    return Files({name: bytes(model.SerializeToString()) for name, model in models.items()}, facts)


def _embedded(checkpoint: Checkpoint, order: Order) -> onnx.ModelProto:
    contract, batch = checkpoint.contract, order.target.batch
    module = Embedded(checkpoint.net, contract, order.embed)
    name, example = example_input(contract, order.embed, 2 if batch == "free" else 1)
    return module_to_onnx(module, example, (name, *embedded_outputs(contract, order.embed)), order.opset, batch)


def _tflite(checkpoint: Checkpoint, order: Order) -> Files:
    """The manifest says whose scales an int8 file has, and which layers are not int8."""
    weights = order.target.weights
    written = to_tflite(checkpoint.net, checkpoint.contract.input.input_hw, checkpoint.contract.outputs, weights)
    facts = ({"scales": "own", "float_layers": list(written.float_layers)} if _is_integer(checkpoint)
             else {"precision": PRECISIONS[weights]})
    return Files({TFLITE_FILE: written.data}, facts)


def _torchscript(checkpoint: Checkpoint, order: Order) -> Files:
    return Files({TORCHSCRIPT_FILE: to_torchscript(checkpoint.net, checkpoint.contract.input.input_hw)}, {})


WRITERS: dict[str, Callable[[Checkpoint, Order], Files]] = {
    "onnx": _onnx, "openvino": _onnx, "tflite": _tflite, "torchscript": _torchscript}
