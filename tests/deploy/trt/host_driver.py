"""A driver whose GPU is the host: addresses are those of arrays, copies are done at once. For the fake TensorRT."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.runtime.gpu.driver import Array, Event, Gpu, Graph, Kernel, Stream
from edgekp.errors import DeviceError

ORIN = Gpu("Orin", (8, 7), 12060)


@dataclass
class HostStream:
    handle: int = 1


class HostDriver:
    """Memory and copies alone; nothing here launches a kernel.

    Attributes:
        held: bytes by address of what was allocated and not yet freed.
    """

    name = "host 1.0"

    def __init__(self, gpu: Gpu = ORIN) -> None:
        self.gpu = gpu
        self.held: dict[int, Array] = {}
        self.is_closed = False

    def allocate(self, size_bytes: int) -> int:
        memory = np.full(size_bytes, 0xFF, np.uint8)  # NaN, to be seen where something is read before it was written
        self.held[memory.ctypes.data] = memory
        return int(memory.ctypes.data)

    def free(self, address: int) -> None:
        del self.held[address]

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return np.zeros(shape, dtype)

    def to_device(self, address: int, host: Array, stream: Stream) -> None:
        self._require_room(address, host)
        ctypes.memmove(address, host.ctypes.data, host.nbytes)

    def to_host(self, host: Array, address: int, stream: Stream) -> None:
        self._require_room(address, host)
        ctypes.memmove(host.ctypes.data, address, host.nbytes)

    def load(self, cubin: bytes, names: Sequence[str]) -> dict[str, Kernel]:
        raise DeviceError("the host runs no kernels")

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: Sequence[np.generic],
               stream: Stream) -> None:
        raise DeviceError("the host runs no kernels")

    def new_stream(self) -> Stream:
        return HostStream()

    def synchronize(self, stream: Stream) -> None:
        """Everything was done at once."""

    def new_event(self) -> Event:
        return [0.0]

    def record(self, event: Event, stream: Stream) -> None:
        """The host's events have no time."""

    def elapsed_ms(self, first: Event, last: Event) -> float:
        return 0.0

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        return None

    def replay(self, graph: Graph, stream: Stream) -> None:
        raise DeviceError("the host knows no graphs")

    def close(self) -> None:
        self.is_closed = True

    def _require_room(self, address: int, host: Any) -> None:
        assert host.flags.c_contiguous
        assert host.nbytes <= self.held[address].nbytes, "a copy beyond the memory that was allocated"
