"""TensorRT behind the Session protocol: host arrays in and out, larger batches in turns. Knows no image.

The way of measurements and of models that the host decodes; the loop of a camera keeps its arrays on the GPU instead.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.gpu.driver import CudaDriver
from deploy.runtime.trt.engine import TrtEngine, open_engine
from edgekp.artifact import Artifact
from edgekp.sample import Float


class TrtSession:
    """An engine with memory for its largest batch, on the GPU and page-locked on the host; it closes its driver."""

    def __init__(self, engine: TrtEngine, driver: CudaDriver) -> None:
        self._engine, self._driver, self._stream = engine, driver, driver.new_stream()
        (self._input, _), = engine.inputs.items()
        bindings = {**engine.inputs, **engine.outputs}
        self._device = {name: driver.allocate(binding.bytes_of(engine.most)) for name, binding in bindings.items()}
        self._host = {name: driver.pinned((engine.most, *binding.shape), binding.dtype)
                      for name, binding in bindings.items()}
        for name, address in self._device.items():
            engine.bind(name, address)

    @classmethod
    def of(cls, artifact: Artifact) -> TrtSession:
        """The engine beside an artifact's model, on this machine's GPU."""
        from deploy.runtime.gpu.backend import open_driver
        driver = open_driver()
        try:
            return cls(open_engine(artifact, driver), driver)
        except BaseException:
            driver.close()
            raise

    def infer(self, inputs: Float) -> dict[str, Float]:
        most = self._engine.most
        turns = [self._infer(inputs[start:start + most]) for start in range(0, len(inputs), most)]
        return {name: np.concatenate([turn[name] for turn in turns]) for name in self._engine.outputs}

    def close(self) -> None:
        self._engine.close()
        for address in self._device.values():
            self._driver.free(address)
        self._driver.close()

    def _infer(self, inputs: Float) -> dict[str, Float]:
        """Outputs of (N, 3, h, w) inputs, N at most the engine's largest batch."""
        count, stream = len(inputs), self._stream
        self._host[self._input][:count] = inputs
        self._driver.to_device(self._device[self._input], self._host[self._input][:count], stream)
        self._engine.set_batch(count)
        self._engine.enqueue(stream.handle)
        for name in self._engine.outputs:
            self._driver.to_host(self._host[name][:count], self._device[name], stream)
        self._driver.synchronize(stream)
        return {name: self._host[name][:count].astype(np.float32) for name in self._engine.outputs}
