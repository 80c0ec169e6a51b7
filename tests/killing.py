"""Kill -9 at any one moment of a function: a copy of this process does the work and shoots itself on the way."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a fork that is killed before its ``moment``-th call of the system; False if it ended before that.

    All moments together are all states of the disk that a kill can leave.
    """
    child = os.fork()
    if child == 0:
        _do_until(moment, work)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the work ended with an error, see above ({status})"
    return status != 0


def _do_until(moment: int, work: Callable[[], object]) -> NoReturn:
    calls = 0

    def count(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal calls
        calls += event == "c_call" and _asks_the_system(called)
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.setprofile(count)
        work()
        sys.setprofile(None)
        code = 0
    except BaseException:  # noqa: BLE001 (a fork of the tests must never go on as a second run of them)
        sys.setprofile(None)
        traceback.print_exc()
    finally:
        os._exit(code)


def _asks_the_system(called: Any) -> bool:
    """Whether a function of C is one of the module ``os``, ``open``, or a method of a file."""
    return called.__module__ in ("posix", "_io", "io") or isinstance(called.__self__, io.IOBase)
