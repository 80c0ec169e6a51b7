"""One input given to one target under limits of time and memory, and what is wrong if it does not end properly.

    python -m fuzz.attempt TARGET FILE    # repeats a finding, with its traceback; exit code 1 while it still is one
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from edgekp.cli import Parser, add_debug, run
from edgekp.errors import EdgekpError
from fuzz.target import Read, load_target, target_names

LONGEST_BYTES = 1 << 16
LONGEST_S = 1.0  # of processor time, so that a busy machine does not make findings
MOST_MEMORY_BYTES = 1 << 30  # beyond what the process has when it begins
REPOSITORY = Path(__file__).resolve().parents[1]


class _TooSlow(BaseException):
    """Not an Exception, so that no parser takes it for damage."""


@dataclass(frozen=True)
class Finding:
    """How an input ended.

    Attributes:
        key: kind of error and the function of ours where it came up; the same for inputs that show the same fault.
        story: the traceback.
    """

    key: str
    story: str


def attempt(read: Read, data: bytes) -> Finding | None:
    """Hand ``data`` over; None where it is accepted, or refused with an EdgekpError, in time."""
    try:
        with time_limit(LONGEST_S):
            read(data)
    except EdgekpError:
        return None
    except (Exception, _TooSlow) as error:  # noqa: BLE001 - whatever it is, it is what this looks for
        return Finding(_key(error), traceback.format_exc())
    return None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise in the block after so much processor time."""
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _TooSlow(f"took more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def memory_limit(more_bytes: int = MOST_MEMORY_BYTES) -> Iterator[None]:
    """A MemoryError in the block where this process takes so much more address space than it has now."""
    has_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has_pages * resource.getpagesize() + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _key(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if REPOSITORY in Path(frame.filename).parents and Path(frame.filename).parent.name != "fuzz"]
    place = f"{Path(frames[-1].filename).stem}-{frames[-1].name}" if frames else "outside"
    return f"{type(error).__name__.strip('_')}-{place}".replace("<", "").replace(">", "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m fuzz.attempt", description="Repeat a finding.")
    parser.add_argument("target", choices=target_names(), metavar="TARGET")
    parser.add_argument("file", type=Path)
    add_debug(parser)
    return run(_repeat, parser, argv)


def _repeat(arguments: argparse.Namespace) -> int:
    data = arguments.file.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        read = load_target(arguments.target).reader(Path(folder))
        with memory_limit():
            finding = attempt(read, data)
    print(finding.story if finding else "no finding: accepted, or refused with an EdgekpError, in time")
    return int(finding is not None)


if __name__ == "__main__":
    sys.exit(main())
