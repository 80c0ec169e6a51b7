"""TFLite's interpreter with XNNPACK behind the Session protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from edgekp.artifact import Artifact
from edgekp.errors import ArtifactError
from edgekp.sample import Float

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file
RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")  # the smallest first
MAP_RANK = 4


def interpreter_module() -> Any:
    """The first runtime that is installed.

    Raises:
        ArtifactError: None is.
    """
    for name in RUNTIMES:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ArtifactError("no TFLite runtime is installed; run: pip install 'edgekp[tflite]'")


@contextmanager
def no_banner() -> Iterator[None]:
    """Keep off the terminal what the runtime says while it opens a model, without a switch; errors are raised, too."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


class TFLiteSession:
    """A TFLite model of batch size 1, which must have the contract's outputs in its order.

    A batch is run one by one: with a free batch size XNNPACK plans its memory anew at every change of it, and on one
    thread a batch takes as long as its instances.
    """

    def __init__(self, model: bytes, outputs: tuple[str, ...], where: str, threads: int = 1) -> None:
        if model[4:8] != IDENTIFIER:
            raise ArtifactError(f"{where}: no TFLite file; export the model again")
        try:
            interpreter = interpreter_module().Interpreter
            with no_banner():
                self._interpreter = interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ArtifactError(f"{where}: the TFLite runtime refuses it ({reason}); export the model again") from error
        details = self._interpreter.get_output_details()
        found = tuple(str(detail["name"]) for detail in details)
        if found != outputs:
            raise ArtifactError(f"{where}: outputs {list(found)}, expected {list(outputs)}; export the model again")
        self._input = int(self._interpreter.get_input_details()[0]["index"])
        self._outputs = {name: int(detail["index"]) for name, detail in zip(found, details, strict=True)}

    @classmethod
    def of(cls, artifact: Artifact, threads: int = 1) -> TFLiteSession:
        """The model of an artifact, of which the very bytes that the runtime is given are checked."""
        return cls(artifact.read_model(), artifact.contract.outputs, str(artifact.model_path), threads)

    def infer(self, inputs: Float) -> dict[str, Float]:
        rows = [self._infer_one(one) for one in np.asarray(inputs, np.float32)]
        return {name: np.stack([row[name] for row in rows]) for name in self._outputs}

    def close(self) -> None:
        del self._interpreter

    def _infer_one(self, one: Float) -> dict[str, Float]:
        """Outputs (C, H, W), or as they are, of one (3, h, w) input; copies, as the interpreter reuses its memory."""
        interpreter = self._interpreter
        target = interpreter.tensor(self._input)()[0]
        for channel, plane in enumerate(one):
            target[..., channel] = plane
        del target  # the interpreter refuses to run while its memory is seen
        interpreter.invoke()
        found = {}
        for name, index in self._outputs.items():
            row = interpreter.get_tensor(index)[0]
            found[name] = row.transpose(2, 0, 1) if row.ndim == MAP_RANK - 1 else row
        return found
