"""From what a user asks of an engine to what is built: which file, by which types, for which batches.

The types of a network come from its file wherever a file says them: strongly typed, as every network of TensorRT 11
is, so that engines of 10.3 and of 11 compute alike and no layer changes its precision behind our back. Flags on a
weakly typed network are the way of 8.6, which knows no other, of artifacts without a float16 file, and of the DLA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.runtime.trt.module import has_strong_types, label, precision_flags
from deploy.runtime.trt.stamp import Request
from edgekp.artifact import Artifact
from edgekp.contract import Contract
from edgekp.errors import ArtifactError, EngineError

PRECISIONS = ("auto", "fp32", "fp16", "int8")
FLAGS: dict[str, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",),
                                     "int8": ("INT8", "FP16")}  # the layers that are not int8 are faster in fp16
PEOPLE = 8  # largest batch of a model that is shown people one by one, unless another is asked for
EXPORT_AGAIN = "export it again: python -m deploy.export --target jetson"


@dataclass(frozen=True)
class Order:
    """What a user asks of an engine; ``auto`` and None leave it to the artifact."""

    precision: str = "auto"
    max_batch: int | None = None
    dla: int | None = None
    workspace_mb: int | None = None


def require_onnx(artifact: Artifact) -> None:
    if artifact.kind != "onnx":
        raise ArtifactError(f"{artifact.folder}: holds a '{artifact.kind}', engines are built from 'onnx'; "
                            f"{EXPORT_AGAIN}")


def request_of(order: Order, artifact: Artifact, trt: Any) -> Request:
    """What is to be built with this version of TensorRT.

    Raises:
        ArtifactError: Not an ONNX artifact, or one that names a file which it does not list.
        EngineError: The artifact, the version or the DLA cannot give what is asked.
    """
    require_onnx(artifact)
    precision = _precision(order, artifact)
    onnx, strongly_typed = _source(precision, order.dla, artifact, trt)
    if onnx not in artifact.files:
        raise ArtifactError(f"{artifact.folder}/manifest.json: '{onnx}' is not among its files; {EXPORT_AGAIN}")
    return Request(onnx, precision, strongly_typed, _max_batch(order, artifact), order.dla, order.workspace_mb)


def _precision(order: Order, artifact: Artifact) -> str:
    """int8 for a model on the int8 grid, and only for one: its scales were learnt on the host."""
    is_int8 = artifact.model.get("precision") == "int8"
    if order.precision == "auto":
        return "int8" if is_int8 else "fp16"
    if (order.precision == "int8") != is_int8:
        holds = "an int8 model" if is_int8 else "a float model"
        other = "the float model is the folder 'float' of its export" if is_int8 else "int8 models are made by the " \
            "recipe's step 'quantize'"
        raise EngineError(f"--precision {order.precision}: {artifact.folder} holds {holds}; {other}")
    if order.dla is not None and order.precision == "fp32":
        raise EngineError(f"--dla {order.dla}: the DLA computes fp16 and int8, not fp32; use --precision fp16")
    return order.precision


def _source(precision: str, dla: int | None, artifact: Artifact, trt: Any) -> tuple[str, bool]:
    """The file, and whether it alone says the types."""
    whole, half = str(artifact.model["file"]), artifact.model.get("fp16_file")
    has_flags = precision_flags(trt, FLAGS[precision]) is not None
    if precision == "fp32":
        return whole, has_strong_types(trt)
    if half and has_strong_types(trt) and not (has_flags and dla is not None):
        return str(half), True
    if has_flags:
        return whole, False
    if precision == "fp16":
        raise EngineError(f"{artifact.folder}: has no float16 file, and TensorRT {label(trt)} takes fp16 from a file "
                          f"alone; {EXPORT_AGAIN}, or use --precision fp32")
    return whole, True


def _max_batch(order: Order, artifact: Artifact) -> int:
    if order.dla is not None:
        if order.max_batch not in (None, 1):
            raise EngineError(f"--max-batch {order.max_batch}: on the DLA every size is fixed; leave it out with --dla")
        return 1
    return order.max_batch or (PEOPLE if isinstance(artifact.contract, Contract) else 1)
