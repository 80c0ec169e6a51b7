"""One protocol for every runtime: open an artifact, infer batches, close. Knows no image and no keypoint."""

from __future__ import annotations

from typing import Protocol

from edgekp.artifact import Artifact
from edgekp.errors import ArtifactError
from edgekp.sample import Float


class Session(Protocol):
    """A loaded model."""

    def infer(self, inputs: Float) -> dict[str, Float]:
        """Outputs by name, (N, ...) float32, for (N, 3, h, w) float32 inputs that the contract prepared."""

    def close(self) -> None:
        """Give back what the runtime holds; the session cannot be used afterwards."""


def open_session(artifact: Artifact, threads: int = 1, backend: str | None = None) -> Session:
    """The session for an artifact's format, or for the engine beside its model with the backend ``trt``.

    Each runtime is imported only when its format is opened.
    """
    if backend == "trt":
        from deploy.runtime.trt.trt_session import TrtSession
        return TrtSession.of(artifact)
    if artifact.kind == "onnx":
        from deploy.runtime.onnx_session import OnnxSession
        return OnnxSession.of(artifact, threads)
    if artifact.kind == "tflite":
        from deploy.runtime.tflite_session import TFLiteSession
        return TFLiteSession.of(artifact, threads)
    if artifact.kind == "torchscript":
        from deploy.runtime.torchscript_session import TorchScriptSession
        return TorchScriptSession(artifact, threads)
    if artifact.kind == "openvino":
        from deploy.runtime.openvino_session import OpenVINOSession
        return OpenVINOSession(artifact, threads)
    if artifact.kind == "checkpoint":
        from deploy.runtime.torch_session import TorchSession
        return TorchSession(artifact, threads)
    raise ArtifactError(f"{artifact.folder}: no runtime here for '{artifact.kind}'; known: onnx, tflite, torchscript, "
                        "openvino, checkpoint")
