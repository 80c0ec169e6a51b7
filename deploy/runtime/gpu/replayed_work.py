"""Work for a GPU that is queued again and again: by launches at first, later as a CUDA graph. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from deploy.runtime.gpu.driver import CudaDriver, Graph, Stream
from edgekp.errors import DeviceError, EngineError
from edgekp.stage import say

RUNS_BEFORE_CAPTURE = 20  # runtimes choose kernels, allocate and let clocks rise in their first runs


class ReplayedWork:
    """Queues work on a stream, and replays it once it has been the same for a while.

    There is one graph at a time, not one for every kind of work: a graph of TensorRT is defined only as long as its
    execution context keeps its shapes, and another kind sets others.
    """

    def __init__(self, driver: CudaDriver, stream: Stream, runs_before_capture: int = RUNS_BEFORE_CAPTURE) -> None:
        self._driver, self._stream, self._runs_before_capture = driver, stream, runs_before_capture
        self._kind: Hashable = None
        self._runs = 0
        self._graph: Graph | None = None
        self._can_capture = True

    @property
    def is_graph(self) -> bool:
        """Whether the last run was a replay."""
        return self._graph is not None

    def run(self, kind: Hashable, work: Callable[[], None]) -> None:
        """Queue ``work``, which for one kind queues the same kernels and copies at the same addresses every time.

        Nothing of the run before may still be waiting on the stream.
        """
        if kind != self._kind:
            self._kind, self._runs, self._graph = kind, 0, None
        if self._runs == self._runs_before_capture and self._can_capture:
            self._capture(work)
        self._runs += 1
        if self._graph is None:
            work()
        else:
            self._driver.replay(self._graph, self._stream)

    def _capture(self, work: Callable[[], None]) -> None:
        """Some networks wait for the host amid their work and cannot be captured; they go on by launches."""
        try:
            self._graph = self._driver.capture(self._stream, work)
        except (DeviceError, EngineError) as error:
            say(f"gpu: every kernel is launched by itself, for a CUDA graph of them cannot be had: {error}")
        self._can_capture = self._graph is not None
