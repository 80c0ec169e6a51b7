"""A line of what the doctor says of a device, and how its probes ask. Knows no probe."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekp.machine import ROOT, output_of, text_of

State = Literal["ok", "missing", "worth knowing"]


@dataclass(frozen=True)
class Line:
    """What was found of one part.

    Attributes:
        mend: a command, or several in their order; None where nothing needs mending.
    """

    part: str
    found: str
    state: State = "ok"
    mend: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a Python of its own printed; a problem where it failed, as its last words say."""

    said: str = ""
    problem: str | None = None


def ask_python(code: str, *arguments: str) -> Answer:
    """Run code in another process: an import that crashes, or was built for another numpy, must not end the doctor."""
    try:
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60,
                              check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(problem=str(error))
    if done.returncode < 0:
        return Answer(problem=f"crashes with signal {-done.returncode}")
    if done.returncode:
        return Answer(problem=(done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return Answer(done.stdout)


def free_bytes(folder: Path) -> int | None:
    """Of the disk that holds a folder, or will."""
    try:
        return shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free
    except OSError:
        return None


@dataclass(frozen=True)
class Machine:
    """How probes ask; tests answer in its place.

    Attributes:
        root: where its /dev, /etc, /proc and /sys are.
        output: what a program prints.
        python: what a piece of Python prints.
        environment: folder of the Python that runs this.
    """

    root: Path = ROOT
    output: Callable[..., str | None] = output_of
    python: Callable[..., Answer] = ask_python
    free_bytes: Callable[[Path], int | None] = free_bytes
    environment: Path = Path(sys.prefix)

    def text(self, path: str) -> str | None:
        return text_of(self.root / path)

    @property
    def board(self) -> str | None:
        """What the device tree calls it."""
        return self.text("proc/device-tree/model")

    @property
    def is_jetson(self) -> bool:
        return self.text("etc/nv_tegra_release") is not None or "Jetson" in (self.board or "")

    @property
    def is_container(self) -> bool:
        return (self.root / ".dockerenv").exists()
