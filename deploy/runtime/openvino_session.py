"""OpenVINO on the CPU behind the Session protocol; it reads ONNX files as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekp.artifact import Artifact
from edgekp.errors import ArtifactError
from edgekp.sample import Float


class OpenVINOSession:
    """An ONNX model in OpenVINO, which must have the contract's outputs.

    Float layers are computed in float32: by default OpenVINO takes bfloat16 where the processor has it, 2 digits less.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        where = str(artifact.model_path)
        core = _core()
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        try:
            model = core.read_model(artifact.read_model())
            self._model = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise ArtifactError(f"{where}: OpenVINO refuses it ({reason}); export the model again") from error
        found = tuple(output.get_any_name() for output in self._model.outputs)
        if found != artifact.contract.outputs:
            raise ArtifactError(f"{where}: outputs {list(found)}, expected {list(artifact.contract.outputs)}; export "
                                "the model again")
        self._outputs = found
        self._one_by_one = self._model.inputs[0].partial_shape[0].is_static

    def infer(self, inputs: Float) -> dict[str, Float]:
        array = np.ascontiguousarray(inputs, np.float32)
        calls = np.split(array, len(array)) if self._one_by_one else [array]
        rows = [self._model([call]) for call in calls]
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(self._outputs)}

    def close(self) -> None:
        del self._model


def _core() -> Any:
    try:
        import openvino
    except ImportError:
        raise ArtifactError("OpenVINO is not installed; run: pip install 'edgekp[openvino]'") from None
    return openvino.Core()
