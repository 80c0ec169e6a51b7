"""Memory that notices what is written beside it, and that nobody mistakes for zeros. Knows no GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

GUARD_BYTES = 256
POISON = 0xFF  # NaN as a float, -1 as an int


class Misuse(AssertionError):
    """What a program must not do to a GPU, even where one would forgive it."""


@dataclass
class Buffer:
    """Memory between guards."""

    size: int
    what: str
    whole: np.ndarray[Any, Any] = field(init=False)
    address: int = field(init=False)

    def __post_init__(self) -> None:
        self.whole = np.full(self.size + 3 * GUARD_BYTES, POISON, np.uint8)
        start = self.whole.ctypes.data + GUARD_BYTES
        self.address = start + -start % GUARD_BYTES

    def holds(self, address: int, size: int) -> bool:
        return self.address <= address and address + size <= self.address + self.size

    def check(self) -> None:
        start = self.address - self.whole.ctypes.data
        if not (self.whole[:start] == POISON).all() or not (self.whole[start + self.size:] == POISON).all():
            raise Misuse(f"something wrote beside {self.size} bytes of {self.what} memory")
