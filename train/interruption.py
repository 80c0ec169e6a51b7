"""Ctrl-C and SIGTERM, kept until a step is over: between two steps a run can be saved, within one it cannot."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody has asked for the end."""

    def __init__(self) -> None:
        self.asked = False

    def note(self, number: int, _frame: FrameType | None) -> None:
        """A signal handler: the first signal is kept, a second Ctrl-C is obeyed at once; launchers repeat SIGTERM."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def signals_kept() -> Iterator[Interruption]:
    """Within the block, Ctrl-C and SIGTERM only ask; where signals cannot be caught, in a thread, nobody asks."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    handlers = {number: signal.signal(number, interruption.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
