"""A GPU through pycuda; its graphs and events through libcuda.py, since pycuda's interface has no graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.runtime.gpu.driver import Array, Event, Gpu, Graph, Kernel, Stream
from deploy.runtime.gpu.libcuda import Libcuda
from edgekp.errors import DeviceError

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which pycuda has no name


class PyCudaDriver:
    """As CudaDriver says; in the GPU's primary context, which TensorRT uses too.

    Raises:
        ImportError: There is no pycuda, or it finds no CUDA driver to link.
        DeviceError: There is no GPU.
    """

    def __init__(self) -> None:
        import pycuda
        import pycuda.driver

        self._cuda: Any = pycuda.driver
        self.name = f"pycuda {pycuda.VERSION_TEXT}"
        self._libcuda = Libcuda()
        self._memory: dict[int, Any] = {}
        self._pinned: list[Array] = []  # kept: pycuda unpins an array that nobody holds, even amid a copy
        with self._named_errors("open the GPU"):
            self._cuda.init()
            device = self._cuda.Device(0)
            self.gpu = Gpu(device.name(), device.compute_capability(), self._cuda.get_driver_version())
            self._context = device.retain_primary_context()
            self._context.push()

    def allocate(self, size_bytes: int) -> int:
        with self._named_errors(f"get {size_bytes} bytes of the GPU's memory"):
            memory = self._cuda.mem_alloc(size_bytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        with self._named_errors("free the GPU's memory"):
            self._memory.pop(address).free()

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        with self._named_errors(f"pin host memory of shape {shape}"):
            self._pinned.append(self._cuda.pagelocked_empty(shape, dtype))
        return self._pinned[-1]

    def to_device(self, address: int, host: Array, stream: Stream) -> None:
        with self._named_errors("copy to the GPU"):
            self._cuda.memcpy_htod_async(address, host, stream)

    def to_host(self, host: Array, address: int, stream: Stream) -> None:
        with self._named_errors("copy from the GPU"):
            self._cuda.memcpy_dtoh_async(host, address, stream)

    def load(self, cubin: bytes, names: Sequence[str]) -> dict[str, Kernel]:
        with self._named_errors("load the kernels"):
            module = self._cuda.module_from_buffer(cubin)
            return {name: module.get_function(name) for name in names}

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: Sequence[np.generic],
               stream: Stream) -> None:
        with self._named_errors("launch a kernel"):
            kernel(*arguments, grid=grid, block=(block, 1, 1), stream=stream)

    def new_stream(self) -> Stream:
        with self._named_errors("make a stream"):
            stream: Stream = self._cuda.Stream(NON_BLOCKING)
        return stream

    def synchronize(self, stream: Stream) -> None:
        with self._named_errors("wait for the GPU"):
            stream.synchronize()  # type: ignore[attr-defined]  # pycuda lets go of Python's lock meanwhile

    def new_event(self) -> Event:
        return self._libcuda.new_event()

    def record(self, event: Event, stream: Stream) -> None:
        self._libcuda.record(event, stream.handle)

    def elapsed_ms(self, first: Event, last: Event) -> float:
        return self._libcuda.elapsed_ms(first, last)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        return self._libcuda.capture(stream.handle, work)

    def replay(self, graph: Graph, stream: Stream) -> None:
        self._libcuda.replay(graph, stream.handle)

    def close(self) -> None:
        self._libcuda.close()
        while self._memory:
            self.free(next(iter(self._memory)))
        self._pinned.clear()
        with self._named_errors("leave the GPU"):
            self._context.pop()
            self._context.detach()

    @contextmanager
    def _named_errors(self, aim: str) -> Iterator[None]:
        """Errors of pycuda as DeviceError, with the CUDA driver's words, and what could not be done."""
        try:
            yield
        except self._cuda.Error as error:
            raise DeviceError(f"cannot {aim}: {error}; see edgekp doctor device") from error
