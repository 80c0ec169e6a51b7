"""ONNX Runtime on the CPU behind the Session protocol."""

from __future__ import annotations

import numpy as np
import onnxruntime

from edgekp.artifact import Artifact
from edgekp.errors import ArtifactError
from edgekp.sample import Float, Image


class OnnxSession:
    """An ONNX model in ONNX Runtime, which must have these outputs in this order; ``where`` names it in errors.

    A model of batch size 1 is run one by one; one that takes uint8 crops is given them as they are. ``as_written``
    computes node by node, without the fused and integer kernels that round in their own way.
    """

    def __init__(self, model: bytes, outputs: tuple[str, ...], where: str, threads: int = 1, *,
                 as_written: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        if as_written:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its C extension that share no base but Exception
            raise ArtifactError(f"{where}: ONNX Runtime refuses it ({error}); export the model again") from error
        found = tuple(output.name for output in self._session.get_outputs())
        if found != outputs:
            raise ArtifactError(f"{where}: outputs {list(found)}, expected {list(outputs)}; export the model again")
        self._outputs = found
        source = self._session.get_inputs()[0]
        self._input, self._one_by_one = source.name, source.shape[0] == 1
        self._dtype = np.uint8 if source.type == "tensor(uint8)" else np.float32

    @classmethod
    def of(cls, artifact: Artifact, threads: int = 1) -> OnnxSession:
        """The model of an artifact, of which the very bytes that the runtime is given are checked."""
        return cls(artifact.read_model(), artifact.contract.outputs, str(artifact.model_path), threads)

    def infer(self, inputs: Float | Image) -> dict[str, Float]:
        array = np.ascontiguousarray(inputs, self._dtype)
        calls = np.split(array, len(array)) if self._one_by_one else [array]
        rows = [self._session.run(list(self._outputs), {self._input: call}) for call in calls]
        return {name: np.concatenate([row[i] for row in rows]) if self._one_by_one else rows[0][i]
                for i, name in enumerate(self._outputs)}

    def close(self) -> None:
        del self._session
