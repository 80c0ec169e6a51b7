"""A network in numpy where an engine would be: it reads and writes the memory of an emulated GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploy.runtime.trt.engine import Binding
from edgekp.errors import EngineError
from edgekp.sample import Float
from tests.deploy.cuda.emulated_gpu import EmulatedGpu

Network = Callable[[Float], dict[str, Float]]


class NumpyEngine:
    """As TrtEngine.

    Attributes:
        seen: the inputs of every run.
        batches: sizes that were set.
        enqueued: how often it was asked to queue a run, which a replayed graph does not.
        fails_next: whether the next call of ``enqueue`` is refused, as TensorRT does for what cannot be captured.
        when_run: called by every run.
    """

    def __init__(self, gpu: EmulatedGpu, input_hw: tuple[int, int], outputs: tuple[str, ...], network: Network,
                 dtype: Any = np.float32, least: int = 1, most: int = 4) -> None:
        self.network, self.least, self.most = network, least, most
        said = network(np.zeros((1, 3, *input_hw), np.float32))
        self.inputs = {"input": Binding((3, *input_hw), dtype)}
        self.outputs = {name: Binding(said[name].shape[1:], np.float32) for name in outputs}
        self.seen: list[Float] = []
        self.batches: list[int] = []
        self.enqueued = 0
        self.fails_next = self.closed = False
        self.when_run: Callable[[], None] = lambda: None
        self._gpu = gpu
        self._addresses: dict[str, int] = {}

    def set_batch(self, batch: int) -> None:
        assert self.least <= batch <= self.most
        self.batches.append(batch)

    def bind(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def enqueue(self, stream: int) -> None:
        self.enqueued += 1
        if self.fails_next:
            self.fails_next = False
            raise EngineError("it could not be run")
        self._gpu.queue(stream, self._run)

    def close(self) -> None:
        self.closed = True

    def _run(self) -> None:
        batch = self.batches[-1]
        inputs = self._gpu.array_at(self._addresses["input"], (batch, *self.inputs["input"].shape), np.float32)
        self.seen.append(inputs.copy())
        self.when_run()
        for name, array in self.network(inputs).items():
            self._gpu.array_at(self._addresses[name], array.shape, np.float32)[...] = array
