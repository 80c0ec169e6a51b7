"""Graphs, and events that can be part of them, by the CUDA driver's own library: pycuda's interface has no graphs.

Works in the context that another package has made current. Knows nothing of what is captured.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from deploy.runtime.gpu.captured_graph import EXTERNAL, THREAD_LOCAL, CapturedGraph, CapturedGraphs
from edgekp.errors import DeviceError

Address = ctypes.c_void_p
Number = ctypes.c_uint


class Libcuda:
    """The functions of libcuda.so.1 that are asked for here; streams are handles.

    Raises:
        DeviceError: There is no such library.
    """

    def __init__(self) -> None:
        try:
            self._library: Any = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise DeviceError(f"no CUDA driver: {error}; install NVIDIA's driver") from error
        self._graphs = CapturedGraphs()
        self._events: list[Address] = []
        self._is_capturing = False

    def new_event(self) -> Address:
        event = Address()
        self._do("cuEventCreate", ctypes.byref(event), Number(0))
        self._events.append(event)
        return event

    def record(self, event: Address, stream: int) -> None:
        self._do("cuEventRecordWithFlags", event, Address(stream), Number(EXTERNAL if self._is_capturing else 0))

    def elapsed_ms(self, first: Address, last: Address) -> float:
        elapsed = ctypes.c_float()
        self._do("cuEventElapsedTime", ctypes.byref(elapsed), first, last)
        return elapsed.value

    def capture(self, stream: int, work: Callable[[], None]) -> CapturedGraph:
        """What ``work`` queues on the stream."""
        graph, executable = Address(), Address()
        self._do("cuStreamBeginCapture_v2", Address(stream), Number(THREAD_LOCAL))
        self._is_capturing = True
        try:
            try:
                work()
            finally:
                self._is_capturing = False
                self._do("cuStreamEndCapture", Address(stream), ctypes.byref(graph))
            self._do("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            if graph:  # null where capturing failed; the executable one does not need it
                self._do("cuGraphDestroy", graph)
        return self._graphs.own(executable, lambda native: self._do("cuGraphExecDestroy", native))

    def replay(self, graph: CapturedGraph, stream: int) -> None:
        self._do("cuGraphLaunch", graph.native, Address(stream))

    def close(self) -> None:
        self._graphs.close()
        while self._events:
            self._do("cuEventDestroy_v2", self._events.pop())

    def _do(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text))
            raise DeviceError(f"cannot use the GPU: {name} failed: {(text.value or b'no name').decode()}; "
                              "see edgekp doctor device")
