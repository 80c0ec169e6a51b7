"""Commands of the toolchain in processes of their own, forked from one that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

READABLE = 500  # characters
Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Done:
    """How a command ended; ``status`` is None where it hung, negative where a signal ended it."""

    status: int | None
    said: str

    @property
    def is_clear(self) -> bool:
        """Whether it was refused with one line that names the command: the last of those on stderr."""
        last = self.said.strip().rpartition("\n")[2]
        names_it = last.startswith(("python ", "deploy/", "edgekp")) and ": " in last
        return self.status == 2 and names_it and len(last) < READABLE and "Traceback" not in self.said


def run_command(main: Main, words: Sequence[str], limit_s: float, first: Callable[[], object] = bool) -> Done:
    """Run ``main`` in a child, which calls ``first`` before; stderr is kept, stdout thrown away."""
    with TemporaryDirectory() as scratch:
        said = Path(scratch) / "stderr"
        said.touch(0o666)
        child = multiprocessing.get_context("fork").Process(target=_work, args=(main, words, said, first))
        child.start()
        child.join(limit_s)
        hung = child.is_alive()
        child.kill()
        child.join()
        return Done(None if hung else child.exitcode, said.read_text(errors="replace"))


def _work(main: Main, words: Sequence[str], said: Path, first: Callable[[], object]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), 2)
    first()
    sys.exit(main(words))
