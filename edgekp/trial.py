"""Bytes of strangers, read in a process of their own before this one reads them. Knows no format.

Some libraries in C end their process, or never return, on a file that is made for it. A module to be tried ends with

    if __name__ == "__main__":
        sys.exit(read_here(READ))
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from edgekp.errors import ArtifactError, EdgekpError

CHECKOUT = Path(__file__).resolve().parents[1]
REFUSED = 2
LONGEST_S = 300.0  # a first run of a large network on a small device takes some tens of seconds
MOST_BYTES = 1 << 30  # more than the process has when it is about to read, beside some copies of the data
COPIES = 4


def survive(module: str, data: bytes, where: str, longest_s: float = LONGEST_S) -> None:
    """Return if ``python -m module`` has read ``data`` to its end.

    Args:
        where: name of the file in messages.

    Raises:
        ArtifactError: It refused the bytes, ended its process, or took too long.
    """
    try:
        done = subprocess.run([sys.executable, "-m", module, where], cwd=CHECKOUT, input=data, capture_output=True,
                              timeout=longest_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{where}: was not read within {longest_s:g} s; it is damaged, or made to keep you "
                            "waiting; use another") from error
    last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1]
    if done.returncode == REFUSED:
        raise ArtifactError(done.stdout.decode("utf-8", "replace"))
    if done.returncode < 0:
        raise ArtifactError(f"{where}: ends the process that reads it ({signal.strsignal(-done.returncode)}: "
                            f"{last[-160:]}); it is damaged, or made to do so; use another")
    if done.returncode:
        raise ArtifactError(f"{where}: cannot be read ({last[-160:]}); use another")


def read_here(read: Callable[[bytes, str], object]) -> int:
    """The other side of ``survive``: an exit code, and on the standard output why the bytes are refused."""
    data = sys.stdin.buffer.read()
    _limit_memory(MOST_BYTES + COPIES * len(data))
    try:
        read(data, sys.argv[1])
    except EdgekpError as error:
        sys.stdout.buffer.write(str(error).encode("utf-8", "backslashreplace"))
        return REFUSED
    return 0


def _limit_memory(most_bytes: int) -> None:
    if sys.platform == "linux":
        import resource

        has_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        least = min([has_bytes + most_bytes, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_AS, (least, limits[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
