"""A CUDA graph that is given back when nobody holds it any more. Knows no package that makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet, finalize

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may use the GPU while a graph is captured
EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL: an event is set by the graph; without it, it has no time after a replay


class CapturedGraph:
    """An executable graph, by its native handle; ``destroy`` may be called once more than needed."""

    def __init__(self, native: Any, destroy: Callable[[Any], object]) -> None:
        self.native = native
        self.destroy = finalize(self, destroy, native)
        self.destroy.atexit = False


class CapturedGraphs:
    """Those of one driver that somebody still holds."""

    def __init__(self) -> None:
        self._alive: WeakSet[CapturedGraph] = WeakSet()

    def own(self, native: Any, destroy: Callable[[Any], object]) -> CapturedGraph:
        graph = CapturedGraph(native, destroy)
        self._alive.add(graph)
        return graph

    def close(self) -> None:
        for graph in list(self._alive):
            graph.destroy()
