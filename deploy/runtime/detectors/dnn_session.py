"""An ONNX model in OpenCV's own runtime behind the Session protocol: a Jetson has it where ONNX Runtime is missing."""

from __future__ import annotations

import cv2
import numpy as np

from edgekp.errors import ArtifactError
from edgekp.sample import Float


class DnnSession:
    """A model with these outputs, in this order; ``where`` names it. Only what OpenCV implements of ONNX runs."""

    def __init__(self, model: bytes, outputs: tuple[str, ...], where: str) -> None:
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
        except cv2.error as error:
            raise ArtifactError(f"{where}: OpenCV {cv2.__version__} refuses it ({error.err}); "
                                "install onnxruntime, which knows all operators") from error
        self._outputs = outputs

    def infer(self, inputs: Float) -> dict[str, Float]:
        self._net.setInput(np.ascontiguousarray(inputs, np.float32))
        arrays = self._net.forward(list(self._outputs))
        return dict(zip(self._outputs, (np.asarray(array) for array in arrays), strict=True))

    def close(self) -> None:
        del self._net
