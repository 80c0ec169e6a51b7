"""Commands of the toolchain in processes that can be killed, without the seconds that each needs to import PyTorch.

One process imports all that a command imports, and then forks for each. What ``python -m`` does after its imports, a
fork does, too: it runs the same module as ``__main__`` in a session, a folder and a log of its own, and leaves the same
way. Imports write nothing, so that no kill is missed. Knows no stage.
"""

from __future__ import annotations

import json
import os
import random
import re
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0  # of a command that takes a few seconds where nobody else computes
SOON_S = 0.003
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")  # Python's audit events that name files


@dataclass(frozen=True)
class Moment:
    """Just before a process touches, for the n-th time, a file whose path the pattern finds; or so long after it."""

    pattern: str
    n: int
    delay_s: float = 0.0


class WarmCommands:
    """A process that has imported ``modules`` and starts commands of them."""

    def __init__(self, modules: Sequence[str]) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._server = subprocess.Popen([sys.executable, "-m", __spec__.name, *modules], cwd=ROOT, env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._running: set[int] = set()
        self._answer(PATIENCE_S)

    def __enter__(self) -> WarmCommands:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for pid in self._running:
            kill_group(pid)
        self._server.communicate()

    def start(self, folder: Path, module: str, *arguments: str, moment: Moment | None = None,
              environment: dict[str, str] | None = None, log: str = "log.txt") -> Command:
        """``python -m module arguments`` in ``folder``; killed at ``moment``, if there is one."""
        self._order({"folder": str(folder), "log": log, "module": module, "arguments": arguments,
                     "environment": environment or {}, "moment": moment and astuple(moment)})
        pid = self._answer(PATIENCE_S)
        assert pid is not None
        self._running.add(pid)
        return Command(pid, folder / log, lambda patience_s: self._wait(pid, patience_s))

    def run(self, folder: Path, module: str, *arguments: str, moment: Moment | None = None) -> Ended:
        """``start``, and wait for the end."""
        return self.start(folder, module, *arguments, moment=moment).wait()

    def _wait(self, pid: int, patience_s: float) -> int | None:
        self._order({"wait": pid})
        code = self._answer(patience_s)
        hangs = code is None
        if hangs:
            kill_group(pid)
            self._answer(PATIENCE_S)
        self._running.remove(pid)
        return None if hangs else code

    def _order(self, order: dict[str, Any]) -> None:
        assert self._server.stdin
        self._server.stdin.write(json.dumps(order) + "\n")

    def _answer(self, patience_s: float) -> int | None:
        assert self._server.stdout
        if not select.select([self._server.stdout], [], [], patience_s)[0]:
            return None
        return int(self._server.stdout.readline())


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: the exit code; negative for a signal, None where it hung and was killed for it.
        said: all that it wrote.
    """

    code: int | None
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass(frozen=True)
class Command:
    """A command that runs; ``pid`` is also its process group and session."""

    pid: int
    log: Path
    _wait: Callable[[float], int | None] = field(repr=False)

    def wait(self, patience_s: float = PATIENCE_S) -> Ended:
        return Ended(self._wait(patience_s), self.log.read_text(errors="replace"))

    def left_behind(self) -> list[int]:
        """Processes of its session that still run."""
        running = (int(place.name) for place in Path("/proc").iterdir() if place.name.isdecimal())
        return [pid for pid in running if _session_of(pid) == self.pid]


def moment_of(pattern: str, touches: int, rng: random.Random) -> Moment:
    """One of so many touches; just before it, or so soon after it that what was opened may be half written."""
    return Moment(pattern, rng.randint(1, touches), rng.choice((0.0, rng.uniform(0, SOON_S))))


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """A signal to all processes of a command; nothing where it is gone already."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _session_of(pid: int) -> int | None:
    """None of a process that is gone, or dead and not yet taken note of."""
    try:
        _, _, facts = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except OSError:
        return None
    state, _parent, _group, session, *_ = facts.split()
    return None if state == "Z" else int(session)


def _serve() -> None:
    """Answer orders, one a line: the process of a command that was started, or how one ended."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        sys.exit(f"{threads} threads after the imports: a fork would copy one of them and the locks of all")
    print(0, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _become(**order)
        print(pid, flush=True)


def _become(folder: str, log: str, module: str, arguments: list[str], environment: dict[str, str],
            moment: tuple[str, int, float] | None) -> None:
    """Run a command in this process, which ends with it."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if moment:
        sys.addaudithook(_killer(*moment))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def _killer(pattern: str, n: int, delay_s: float) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook: Python calls it before each change of a file, in workers, too."""
    touched, expression = 0, re.compile(pattern)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in CHANGES and any(expression.search(os.fspath(path)) for path in arguments[:2]
                                    if isinstance(path, (str, os.PathLike))):
            touched += 1
            if touched != n or (delay_s and os.fork()):
                return
            time.sleep(delay_s)
            os.killpg(0, signal.SIGKILL)

    return hook


if __name__ == "__main__":
    for name in sys.argv[1:]:
        import_module(name)
        if name.endswith(".__main__"):
            del sys.modules[name]  # it runs anew
    _serve()
