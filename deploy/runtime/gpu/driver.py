"""What the runtime asks of a GPU: memory, copies, kernels, streams, graphs. Knows no TensorRT and no keypoint.

A GPU is driven through pycuda, or through NVIDIA's cuda-python where that is missing; both behind one protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Kernel = Any  # a driver's own handles; only the driver that made one looks into it
Event = Any
Graph = Any


@dataclass(frozen=True)
class Gpu:
    """The device that is driven.

    Attributes:
        capability: such as (8, 7) for Orin.
        cuda_version: of the driver, such as 12060 for 12.6.
    """

    name: str
    capability: tuple[int, int]
    cuda_version: int

    @property
    def architecture(self) -> str:
        """As compilers call it: ``sm_87``."""
        return "sm_{}{}".format(*self.capability)


class Stream(Protocol):
    """An own queue of work."""

    @property
    def handle(self) -> int:
        """The address that TensorRT is given."""


class CudaDriver(Protocol):
    """One GPU in the calling thread. Addresses are integers; copies and launches are queued on a stream.

    Attributes:
        name: package and version, such as ``pycuda 2024.1``.
    """

    name: str
    gpu: Gpu

    def allocate(self, size_bytes: int) -> int:
        """Address of device memory; DeviceError where there is too little."""

    def free(self, address: int) -> None:
        """Give memory of ``allocate`` back."""

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """A page-locked host array, from and to which copies do not block."""

    def to_device(self, address: int, host: Array, stream: Stream) -> None:
        """Copy a contiguous array to the device."""

    def to_host(self, host: Array, address: int, stream: Stream) -> None:
        """Copy from the device into a contiguous array."""

    def load(self, cubin: bytes, names: Sequence[str]) -> dict[str, Kernel]:
        """Kernels by name; DeviceError where the binary is for another GPU or lacks one."""

    def launch(self, kernel: Kernel, grid: tuple[int, int], block: int, arguments: Sequence[np.generic],
               stream: Stream) -> None:
        """Queue a kernel; addresses are ``np.uint64``, numbers ``np.int32`` and ``np.float32``, structs ``np.void``."""

    def new_stream(self) -> Stream:
        """A stream that does not wait for the default one."""

    def synchronize(self, stream: Stream) -> None:
        """Wait until a stream is empty, without holding Python's lock."""

    def new_event(self) -> Event:
        """A mark in a stream, with a time."""

    def record(self, event: Event, stream: Stream) -> None:
        """Set the mark after what is queued so far."""

    def elapsed_ms(self, first: Event, last: Event) -> float:
        """Between two marks that the device has passed."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        """What ``work`` queues on the stream, as one graph; None where this driver knows no graphs."""

    def replay(self, graph: Graph, stream: Stream) -> None:
        """Queue a graph."""

    def close(self) -> None:
        """Give everything back."""
