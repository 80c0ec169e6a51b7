"""An engine that was checked and opened: its tensors, their addresses, and one call that queues it on a stream.

Knows no image: it is given addresses in device memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.runtime.gpu.driver import CudaDriver, Gpu
from deploy.runtime.trt.module import import_tensorrt, keeping_logger, label, quoted
from deploy.runtime.trt.stamp import ENGINE, STAMP, Machine, fitting_engine
from edgekp.artifact import Artifact
from edgekp.errors import EngineError

PROFILE = 0  # an engine is built with one


@dataclass(frozen=True)
class Binding:
    """A tensor that the caller gives memory for.

    Attributes:
        shape: without the batch.
    """

    shape: tuple[int, ...]
    dtype: npt.DTypeLike

    def bytes_of(self, batch: int) -> int:
        return batch * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def machine_of(gpu: Gpu, trt: Any) -> Machine:
    """What engines that are built or opened here are tied to."""
    return Machine(label(trt), gpu.name, "{}.{}".format(*gpu.capability))


def rebuild_command(artifact: Artifact) -> str:
    return f"python deploy/build_engine.py {artifact.folder}"


def open_engine(artifact: Artifact, driver: CudaDriver, trt: Any = None) -> TrtEngine:
    """The engine beside an ONNX model; nothing is deserialised before machine, model and digest were found to fit.

    Args:
        driver: keeps the GPU's context that the engine lives in.
        trt: TensorRT's module, where it is not the installed one.

    Raises:
        EngineError: There is no engine, it does not fit, or TensorRT refuses it.
    """
    trt = trt or import_tensorrt()
    path = artifact.folder / ENGINE
    try:
        stamp, data = fitting_engine(artifact, machine_of(driver.gpu, trt))
    except EngineError as error:
        raise EngineError(f"{path}: does not fit this machine and model ({error}); build it here: "
                          f"{rebuild_command(artifact)}") from None
    engine = TrtEngine(trt, data, stamp.request.dla, f"{path}", rebuild_command(artifact))
    if set(engine.outputs) != set(artifact.contract.outputs) or len(engine.inputs) != 1:
        raise EngineError(f"{path}: inputs {sorted(engine.inputs)} and outputs {sorted(engine.outputs)}, the model has "
                          f"one input and {sorted(artifact.contract.outputs)}; {STAMP} is of another engine, build "
                          f"it again: {rebuild_command(artifact)} --force")
    return engine


class TrtEngine:
    """A deserialised engine with one execution context, for one thread.

    Attributes:
        inputs, outputs: what memory ``bind`` is to be given, by name.
        least, most: the batches that it was built for.
    """

    def __init__(self, trt: Any, data: bytes, dla: int | None, where: str, rebuild: str) -> None:
        self._where, self._rebuild = where, rebuild
        self._logger = keeping_logger(trt)
        self._runtime = trt.Runtime(self._logger)  # engine and context live no longer than it does
        if dla is not None:
            self._runtime.DLA_core = dla
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self._refused("TensorRT refuses it")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._refused("there is too little memory to run it")
        names: list[str] = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        given = {name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self.inputs: Mapping[str, Binding] = {name: self._binding(trt, name) for name in names if name in given}
        self.outputs: Mapping[str, Binding] = {name: self._binding(trt, name) for name in names if name not in given}
        self.least, self.most = self._batches(next(iter(self.inputs)))

    def set_batch(self, batch: int) -> None:
        """How many instances the next calls have; addresses stay bound."""
        for name, binding in self.inputs.items():
            if not self._context.set_input_shape(name, (batch, *binding.shape)):
                raise EngineError(f"{self._where}: a batch of {batch}, it was built for {self.least} to {self.most}; "
                                  f"build it for more: {self._rebuild} --max-batch {batch}")

    def bind(self, name: str, address: int) -> None:
        """Where in device memory a tensor lies, large enough for the largest batch."""
        if not self._context.set_tensor_address(name, address):
            raise self._refused(f"no address is taken for {name}")

    def enqueue(self, stream: int) -> None:
        """Queue one run on a stream, by its handle."""
        if not self._context.execute_async_v3(stream):
            raise self._refused("it could not be run")

    def close(self) -> None:
        """Give its memory back, the context first."""
        del self._context, self._engine, self._runtime

    def _batches(self, name: str) -> tuple[int, int]:
        least, _, most = self._engine.get_tensor_profile_shape(name, PROFILE)
        return int(least[0]), int(most[0])

    def _binding(self, trt: Any, name: str) -> Binding:
        shape = tuple(int(size) for size in tuple(self._engine.get_tensor_shape(name))[1:])
        if any(size < 0 for size in shape):
            raise EngineError(f"{self._where}: {name} has the shape {shape} beside its batch, expected fixed sizes; "
                              "export the model again")
        return Binding(shape, trt.nptype(self._engine.get_tensor_dtype(name)))

    def _refused(self, what: str) -> EngineError:
        return EngineError(f"{self._where}: {what}: {quoted(self._logger)}; build it again: {self._rebuild} --force")
