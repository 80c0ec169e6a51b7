"""The GPU under test, with memory and clocks for the checks. Knows no check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gpu_check.record import Found
from deploy.runtime.gpu.device_memory import DeviceMemory
from deploy.runtime.gpu.driver import CudaDriver, Kernel
from deploy.runtime.gpu.kernel_cache import load_kernels

Work = Callable[[], None]
KERNELS = "kernels: compiled and loaded"


class Bench:
    """One GPU, its kernels once they are loaded, a stream, and memory for one check after the other."""

    def __init__(self, driver: CudaDriver) -> None:
        self.driver, self.stream, self.memory = driver, driver.new_stream(), DeviceMemory(driver)
        self.kernels: Mapping[str, Kernel] = {}

    def load(self) -> list[Found]:
        """Compile the kernels, or take them from the cache, and load them."""
        start = perf_counter()
        self.kernels = load_kernels(self.driver)
        return [Found(KERNELS, perf_counter() - start, "s")]

    def freed_after(self, check: Callable[[], Sequence[Found]]) -> Sequence[Found]:
        """What a check finds; its memory is given back."""
        try:
            return check()
        finally:
            self.memory.close()

    def upload(self, array: Any, times: int = 1) -> int:
        """The address of a copy on the device, or of several, one behind the other."""
        host = self.driver.pinned(array.shape, array.dtype)
        host[...] = array
        address = self.memory.take(times * array.nbytes)
        for number in range(times):
            self.driver.to_device(address + number * array.nbytes, host, self.stream)
        self.driver.synchronize(self.stream)
        return address

    def download(self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Any:
        host = self.driver.pinned(shape, dtype)
        self.driver.to_host(host, address, self.stream)
        self.driver.synchronize(self.stream)
        return host.copy()

    def blank(self, shape: tuple[int, ...]) -> int:
        """The address of float32 numbers that are NaN until something is written there."""
        return self.upload(np.full(shape, np.nan, np.float32))

    def in_turn_us(self, works: Sequence[Work], rounds: int = 100) -> list[float]:
        """Median time of each between two marks on the device; every round has each of them once."""
        first, last = self.driver.new_event(), self.driver.new_event()
        times: list[list[float]] = [[] for _ in works]
        for number in range(rounds + rounds // 10):
            for work, taken in zip(works, times, strict=True):
                self.driver.record(first, self.stream)
                work()
                self.driver.record(last, self.stream)
                self.driver.synchronize(self.stream)
                if number >= rounds // 10:  # the first tenth warms up
                    taken.append(1e3 * self.driver.elapsed_ms(first, last))
        return [median(taken) for taken in times]

    def wall_us(self, works: Sequence[tuple[Work, Work]], calls: int, rounds: int = 20) -> list[float]:
        """Median time of one of ``calls`` calls of each by the host's clock, until the device is done with them.

        Args:
            works: what queues each on the device, and what waits for it.
        """
        times: list[list[float]] = [[] for _ in works]
        for _ in range(rounds):
            for (work, wait), taken in zip(works, times, strict=True):
                work()
                wait()
                start = perf_counter()
                for _ in range(calls):
                    work()
                wait()
                taken.append(1e6 * (perf_counter() - start) / calls)
        return [median(taken) for taken in times]

    def as_graph(self, work: Work) -> Work:
        """The same as one CUDA graph, so that the host's launches are not what is timed; as it is where none exist."""
        work()
        self.driver.synchronize(self.stream)
        graph = self.driver.capture(self.stream, work)
        return work if graph is None else lambda: self.driver.replay(graph, self.stream)
