"""A GPU without a GPU: memory with guards, streams that work late, graphs, and kernels that g++ has compiled.

It is stricter than a real one. Work runs when somebody waits for its stream and not before, so that a result that is
read too early is not there yet, and pinned memory that is filled anew too early is sent as it then is. What a GPU
would forgive by luck is a ``Misuse``: freed memory, the default stream, copies from memory that is not pinned.
Knows no driver's interface: fake_pycuda.py and fake_cuda_python.py are that.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from tests.deploy.cuda.guarded_memory import POISON, Buffer, Misuse
from tests.deploy.cuda.kernel_signatures import Signature, kernel_signatures

CUBIN = b"emulated cubin for "
CODES = {"u8": "pointer", "i4": "int", "f4": "float"}  # of NumPy
Work = Callable[[], None]


class Refused(Exception):
    """What a GPU's driver answers with an error, by its name."""


@dataclass
class Stream:
    """Work that waits; while it is captured, in ``captured`` instead."""

    queued: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None


@dataclass
class EmulatedGpu:
    """One device, in the state that its driver has brought it to.

    Attributes:
        launched: names of the kernels that ran, in their order.
        refusals: of an operation by name the error it shall end with once: ``{"launch": "CUDA_ERROR_UNKNOWN"}``
    """

    library: ctypes.CDLL
    capability: tuple[int, int] = (8, 7)
    name: str = "Orin (emulated)"
    driver_version: int = 12060
    memory_bytes: int = 1 << 28
    seed: int = 1
    launched: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signatures: dict[str, Signature] = kernel_signatures()
        self.device: dict[int, Buffer] = {}
        self.pinned: dict[int, Buffer] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, float | None] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.modules: set[int] = set()
        self.contexts: dict[int, int] = {}  # pushed, by thread
        self.retained = 0
        self._freed: list[Buffer] = []  # kept, so that no address is given twice
        self._handles = iter(range(0x1000, 1 << 30))

    def new_handle(self) -> int:
        return next(self._handles)

    def may(self, operation: str) -> None:
        """Every call of the driver comes through here first."""
        if not self.contexts.get(threading.get_ident()):
            raise Refused("CUDA_ERROR_INVALID_CONTEXT")
        if operation in self.refusals:
            raise Refused(self.refusals.pop(operation))

    def allocate(self, size: int) -> int:
        self.may("allocate")
        if any(stream.captured is not None for stream in self.streams.values()):
            raise Misuse("memory is allocated while a graph is captured")
        if not size:
            raise Refused("CUDA_ERROR_INVALID_VALUE")
        if sum(buffer.size for buffer in self.device.values()) + size > self.memory_bytes:
            raise Refused("CUDA_ERROR_OUT_OF_MEMORY")
        buffer = Buffer(size, "device")
        self.device[buffer.address] = buffer
        return buffer.address

    def free(self, address: int) -> None:
        self.may("free")
        if address not in self.device:
            raise Misuse(f"{address:#x} is freed, but is no memory that was allocated")
        buffer = self.device.pop(address)
        buffer.check()
        buffer.whole[:] = POISON
        self._freed.append(buffer)

    def pin(self, size: int) -> int:
        self.may("pin")
        buffer = Buffer(size, "pinned")
        self.pinned[buffer.address] = buffer
        return buffer.address

    def unpin(self, address: int) -> None:
        buffer = self.pinned.pop(address)
        buffer.check()
        self._freed.append(buffer)

    def bytes_at(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """(size,) uint8 of device memory, as a fake engine may read and write it."""
        if not any(buffer.holds(address, size) for buffer in self.device.values()):
            freed = any(buffer.holds(address, 1) for buffer in self._freed)
            raise Misuse(f"{size} bytes at {address:#x} are {'freed memory' if freed else 'no device memory'}")
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def array_at(self, address: int, shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
        """The same as an array."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.bytes_at(address, size).view(dtype).reshape(shape)

    def _pinned_at(self, address: int, size: int) -> np.ndarray[Any, Any]:
        if not any(buffer.holds(address, size) for buffer in self.pinned.values()):
            raise Misuse(f"an asynchronous copy of {size} bytes from or to host memory that is not pinned")
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def new_stream(self, flags: int) -> int:
        self.may("stream")
        if flags != 1:  # CU_STREAM_NON_BLOCKING
            raise Misuse("a stream that waits for the default one")
        handle = self.new_handle()
        self.streams[handle] = Stream()
        return handle

    def stream(self, handle: int) -> Stream:
        if not handle:
            raise Misuse("the default stream is used, for which everything waits")
        if handle not in self.streams:
            raise Refused("CUDA_ERROR_INVALID_HANDLE")
        return self.streams[handle]

    def queue(self, handle: int, work: Work) -> None:
        """Add work to a stream, such as that of a fake engine."""
        stream = self.stream(handle)
        (stream.queued if stream.captured is None else stream.captured).append(work)

    def copy_to_device(self, address: int, host: int, size: int, handle: int) -> None:
        self.may("copy")

        def copy() -> None:
            self.bytes_at(address, size)[:] = self._pinned_at(host, size)

        self.bytes_at(address, size), self._pinned_at(host, size)
        self.queue(handle, copy)

    def copy_to_host(self, host: int, address: int, size: int, handle: int) -> None:
        self.may("copy")

        def copy() -> None:
            self._pinned_at(host, size)[:] = self.bytes_at(address, size)

        self.bytes_at(address, size), self._pinned_at(host, size)
        self.queue(handle, copy)

    def synchronize(self, handle: int) -> None:
        self.may("synchronize")
        stream = self.stream(handle)
        if stream.captured is not None:
            raise Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        while stream.queued:
            stream.queued.pop(0)()
        for buffer in [*self.device.values(), *self.pinned.values()]:
            buffer.check()

    def new_event(self) -> int:
        self.may("event")
        handle = self.new_handle()
        self.events[handle] = None
        return handle

    def record(self, event: int, handle: int, flags: int = 0) -> None:
        """In a captured stream an event gets a time only if it is external to the graph, and elsewhere it cannot be."""
        self.may("record")
        captured = self.stream(handle).captured is not None
        if flags and not captured:
            raise Refused("CUDA_ERROR_INVALID_VALUE")
        if captured and not flags:
            self.events[event] = None
            return
        self.events[event] = None
        self.queue(handle, lambda: self.events.update({event: perf_counter()}))

    def elapsed_ms(self, first: int, last: int) -> float:
        start, end = self.events[first], self.events[last]
        if start is None or end is None:
            raise Refused("CUDA_ERROR_NOT_READY")
        return 1e3 * (end - start)

    def load(self, cubin: bytes) -> int:
        self.may("load")
        if not cubin.startswith(CUBIN):
            raise Refused("CUDA_ERROR_INVALID_IMAGE")
        if cubin != CUBIN + b"sm_%d%d" % self.capability:
            raise Refused("CUDA_ERROR_NO_BINARY_FOR_GPU")
        handle = self.new_handle()
        self.modules.add(handle)
        return handle

    def function(self, name: str) -> str:
        if name not in self.signatures:
            raise Refused("CUDA_ERROR_NOT_FOUND")
        return name

    def launch(self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int],
               arguments: Sequence[Any], handle: int) -> None:
        """``arguments`` are numpy scalars: uint64, int32, float32, void."""
        self.may("launch")
        signature = self.signatures[name]
        types = tuple(_type_of(argument) for argument in arguments)
        wanted = tuple(kind if kind in CODES.values() else "void48" for kind in signature.types)
        if types != wanted:
            raise Misuse(f"{name} takes {', '.join(wanted)}, but was given {', '.join(types)}")
        if block != (signature.block, 1, 1) or min(grid) < 1 or grid[2] != 1:
            raise Misuse(f"{name} runs in blocks of {signature.block}, but was launched with {block} and grid {grid}")
        self.queue(handle, lambda: self._run(name, grid, block, arguments))

    def _run(self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int],
             arguments: Sequence[Any]) -> None:
        for argument in arguments:
            if _type_of(argument) == "pointer":
                self.bytes_at(int(argument), 1)
        stored = [np.array(argument) for argument in arguments]
        addresses = (ctypes.c_void_p * len(stored))(*(array.ctypes.data for array in stored))
        if self.library.launch_kernel(name.encode(), self.seed, *grid[:2], block[0], addresses):
            raise Misuse(self.library.emulator_error().decode())
        self.launched.append(name)

    def begin_capture(self, handle: int) -> None:
        self.may("capture")
        self.stream(handle).captured = []

    def end_capture(self, handle: int) -> int:
        """A graph, whose work is what was queued meanwhile."""
        stream = self.stream(handle)
        if stream.captured is None:
            raise Refused("CUDA_ERROR_ILLEGAL_STATE")
        graph = self.new_handle()
        self.graphs[graph], stream.captured = stream.captured, None
        return graph

    def instantiate(self, graph: int) -> int:
        self.may("instantiate")
        executable = self.new_handle()
        self.graphs[executable] = list(self.graphs[graph])
        return executable

    def replay(self, executable: int, handle: int) -> None:
        self.may("replay")
        for work in self.graphs[executable]:
            self.queue(handle, work)

    def leaks(self) -> list[str]:
        """What nobody has given back."""
        kinds = {"device memory": self.device, "pinned memory": self.pinned, "streams": self.streams,
                 "events": self.events, "graphs": self.graphs, "modules": self.modules,
                 "contexts": range(self.retained)}
        return [f"{len(left)} {kind}" for kind, left in kinds.items() if left]


def _type_of(argument: Any) -> str:
    code = argument.dtype.str[1:]
    return CODES.get(code, f"void{argument.dtype.itemsize}" if code[0] == "V" else code)
