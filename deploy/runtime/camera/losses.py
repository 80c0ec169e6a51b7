"""How often, how long and how loudly a lost camera is called back. Knows no camera."""

from __future__ import annotations

import random
import time

from edgekp.stage import say


class Losses:
    """Says once that a camera is lost and once that it is back, and how long to pause before each new attempt.

    The pauses double from the first to the last, each shortened by up to a half so that many devices do not call at
    once. They start anew when the camera has stayed for longer than the last pause.
    """

    def __init__(self, shown: str, pauses_s: tuple[float, float]) -> None:
        self._shown, self._pauses_s = shown, pauses_s
        self._attempts = 0
        self._since_s: float | None = None
        self._back_at_s: float | None = None

    def lost(self, why: str) -> None:
        """An attempt failed, or a connection broke off."""
        now = time.monotonic()
        if self._since_s is None:
            stayed_s = now - self._back_at_s if self._back_at_s is not None else self._pauses_s[1]
            if stayed_s >= self._pauses_s[1]:
                self._attempts = 0
            self._since_s = now
            say(f"camera lost: {why}; calling it back")
        self._attempts += 1

    def found(self) -> bool:
        """A picture came; True if that ends a loss."""
        if self._since_s is None:
            return False
        now = time.monotonic()
        say(f"camera back: {self._shown}, after {now - self._since_s:.1f} s")
        self._since_s, self._back_at_s = None, now
        return True

    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        if self._attempts == 0:
            return 0.0
        first, last = self._pauses_s
        longest = min(first * 2.0 ** min(self._attempts - 1, 60), last)
        return longest * random.uniform(0.5, 1.0)

    @property
    def gone_s(self) -> float:
        """For how long the camera has been lost; 0 if it is there."""
        return 0.0 if self._since_s is None else time.monotonic() - self._since_s
