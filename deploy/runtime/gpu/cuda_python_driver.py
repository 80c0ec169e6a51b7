"""A GPU through NVIDIA's cuda-python: the CUDA driver's own functions, each with an error as its first result."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.runtime.gpu.captured_graph import EXTERNAL, CapturedGraphs
from deploy.runtime.gpu.driver import Array, Event, Gpu, Graph, Kernel, Stream
from edgekp.errors import DeviceError

TYPES: dict[type[np.generic], Any] = {np.uint64: ctypes.c_void_p, np.int32: ctypes.c_int, np.float32: ctypes.c_float}


@dataclass
class OwnStream:
    """As Stream says."""

    handle: int


class CudaPythonDriver:
    """As CudaDriver says; in the GPU's primary context, which TensorRT uses too.

    Pinned arrays are gone once the driver is closed.

    Raises:
        ImportError: There is no cuda-python.
        DeviceError: There is no GPU, or no CUDA driver.
    """

    def __init__(self) -> None:
        from cuda import bindings
        from cuda.bindings import driver

        self._cuda: Any = driver
        self.name = f"cuda-python {bindings.__version__}"
        self._memory: set[int] = set()
        self._graphs = CapturedGraphs()
        self._is_capturing = False
        self._to_undo: list[tuple[Callable[..., Any], Any]] = []  # in reverse, when it is closed
        try:
            self._do(driver.cuInit, 0)
        except RuntimeError as error:  # the driver's library is loaded now, and not when it is imported
            raise DeviceError(f"no CUDA driver: {error}; install NVIDIA's driver, or run this on a machine with a "
                              "GPU") from error
        device = self._do(driver.cuDeviceGet, 0)
        self.gpu = self._describe(device)
        context = self._do(driver.cuDevicePrimaryCtxRetain, device)
        self._to_undo.append((driver.cuDevicePrimaryCtxRelease, device))
        self._do(driver.cuCtxPushCurrent, context)

    def _describe(self, device: Any) -> Gpu:
        which = self._cuda.CUdevice_attribute
        major, minor = (self._do(self._cuda.cuDeviceGetAttribute, attribute, device)
                        for attribute in (which.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                                          which.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR))
        name = self._do(self._cuda.cuDeviceGetName, 256, device).split(b"\0")[0].decode()
        return Gpu(name, (major, minor), self._do(self._cuda.cuDriverGetVersion))

    def allocate(self, size_bytes: int) -> int:
        address = int(self._do(self._cuda.cuMemAlloc, size_bytes))
        self._memory.add(address)
        return address

    def free(self, address: int) -> None:
        self._memory.remove(address)
        self._do(self._cuda.cuMemFree, address)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self._do(self._cuda.cuMemHostAlloc, size, 0)
        self._to_undo.append((self._cuda.cuMemFreeHost, address))
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return memory.view(dtype).reshape(shape)

    def to_device(self, address: int, host: Array, stream: Stream) -> None:
        self._do(self._cuda.cuMemcpyHtoDAsync, address, host.ctypes.data, host.nbytes, stream.handle)

    def to_host(self, host: Array, address: int, stream: Stream) -> None:
        self._do(self._cuda.cuMemcpyDtoHAsync, host.ctypes.data, address, host.nbytes, stream.handle)

    def load(self, cubin: bytes, names: Sequence[str]) -> dict[str, Kernel]:
        module = self._do(self._cuda.cuModuleLoadData, cubin)
        self._to_undo.append((self._cuda.cuModuleUnload, module))
        return {name: self._do(self._cuda.cuModuleGetFunction, module, name.encode()) for name in names}

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: Sequence[np.generic],
               stream: Stream) -> None:
        types = tuple(TYPES.get(type(argument)) for argument in arguments)
        values = tuple(argument.item() if kind else _structure(argument)
                       for argument, kind in zip(arguments, types, strict=True))
        self._do(self._cuda.cuLaunchKernel, kernel, *grid, 1, block, 1, 1, 0, stream.handle, (values, types), 0)

    def new_stream(self) -> Stream:
        native = self._do(self._cuda.cuStreamCreate, self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._to_undo.append((self._cuda.cuStreamDestroy, native))
        return OwnStream(int(native))

    def synchronize(self, stream: Stream) -> None:
        self._do(self._cuda.cuStreamSynchronize, stream.handle)  # the bindings let go of Python's lock meanwhile

    def new_event(self) -> Event:
        event = self._do(self._cuda.cuEventCreate, self._cuda.CUevent_flags.CU_EVENT_DEFAULT)
        self._to_undo.append((self._cuda.cuEventDestroy, event))
        return event

    def record(self, event: Event, stream: Stream) -> None:
        self._do(self._cuda.cuEventRecordWithFlags, event, stream.handle, EXTERNAL if self._is_capturing else 0)

    def elapsed_ms(self, first: Event, last: Event) -> float:
        return float(self._do(self._cuda.cuEventElapsedTime, first, last))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        # Other threads may use the GPU meanwhile.
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._do(self._cuda.cuStreamBeginCapture, stream.handle, mode)
        self._is_capturing = True
        graph = None
        try:
            try:
                work()
            finally:
                self._is_capturing = False
                graph = self._do(self._cuda.cuStreamEndCapture, stream.handle)
            executable = self._do(self._cuda.cuGraphInstantiate, graph, 0)
        finally:
            if graph is not None:  # the executable one does not need it
                self._do(self._cuda.cuGraphDestroy, graph)
        return self._graphs.own(executable, lambda native: self._do(self._cuda.cuGraphExecDestroy, native))

    def replay(self, graph: Graph, stream: Stream) -> None:
        self._do(self._cuda.cuGraphLaunch, graph.native, stream.handle)

    def close(self) -> None:
        self._graphs.close()
        for address in list(self._memory):
            self.free(address)
        while len(self._to_undo) > 1:
            self._do(*self._to_undo.pop())
        self._do(self._cuda.cuCtxPopCurrent)
        self._do(*self._to_undo.pop())  # the context

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The one result of a function of the driver, or none."""
        error, *results = function(*arguments)
        if error != self._cuda.CUresult.CUDA_SUCCESS:
            _, name = self._cuda.cuGetErrorName(error)
            raise DeviceError(f"cannot use the GPU: {function.__name__} failed: {name.decode()}; "
                              "see edgekp doctor device")
        return results[0] if results else None


def _structure(argument: np.generic) -> ctypes.Structure:
    """The bytes of a ``np.void``, as the bindings take a struct."""
    kind = type("Packed", (ctypes.Structure,), {"_fields_": [("bytes", ctypes.c_uint8 * argument.nbytes)]})
    return kind.from_buffer_copy(argument.tobytes())  # type: ignore[attr-defined, no-any-return]
