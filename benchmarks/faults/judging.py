"""Whether one call refused what it was given, as a call within this process. Knows no fault."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from edgekp.errors import EdgekpError
from edgekp.stage import say


class Hang(Exception):
    """A call that took longer than it may."""


def verdict_of(what: str, call: Callable[[], Any], is_right: Callable[[Any], bool], limit_s: float = 20.0,
               refused: tuple[type[Exception], ...] = ()) -> str:
    """Survived where the call says in one line what is wrong, or gives what is right; what else happens is said.

    Args:
        what: names the try in what is said.
        refused: beside ours, errors that count as a refusal.
    """
    try:
        with within(limit_s):
            found = call()
    except EdgekpError as error:
        verdict, why = ("survived", "") if _is_clear(str(error)) else ("lost", f"no clear line: {str(error)!r}")
    except Hang:
        verdict, why = "lost", f"not done after {limit_s:.0f} s"
    except refused:
        verdict, why = "survived", ""
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what this looks for)
        verdict, why = "lost", f"{type(error).__name__}: {str(error)[:300]!r}"
    else:
        verdict, why = ("survived", "") if is_right(found) else ("silent", "used, or a wrong result")
    if why:
        say(f"faults: {what}: {verdict}: {why}")
    return verdict


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Raise Hang in the block when the time is over."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _is_clear(text: str) -> bool:
    return 0 < len(text) < 500 and "\n" not in text
