"""Device memory that is given back together. Knows no model."""

from __future__ import annotations

from deploy.runtime.gpu.driver import CudaDriver


class DeviceMemory:
    """Hands out memory of one GPU, and frees all of it at once."""

    def __init__(self, driver: CudaDriver) -> None:
        self._driver = driver
        self._addresses: list[int] = []

    def take(self, size_bytes: int) -> int:
        """The address of so many bytes; none is too few."""
        self._addresses.append(self._driver.allocate(max(size_bytes, 1)))
        return self._addresses[-1]

    def close(self) -> None:
        while self._addresses:
            self._driver.free(self._addresses.pop())
