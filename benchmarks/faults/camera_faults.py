"""Camera faults through the whole loop: what it says, writes and gives back must be right whatever the camera does.

survived  it went on, or ended with a ``CameraError`` where the camera stayed away for good; every line whole and in
          order, every picture accounted for, no thread and no file left, no password shown
lost      it raised something else, stood still, or kept a thread or a file
silent    it ended well, but a line, a picture of the video or a number is missing or wrong
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import cv2
import numpy as np

from benchmarks.faults.outcome import Outcome, tally
from benchmarks.soak.accounts import read_back, unaccounted
from benchmarks.soak.crowd import Crowd
from benchmarks.soak.network import write_steady_artifact
from benchmarks.soak.samples import Held
from benchmarks.soak.unruly_camera import KINDS, Drawn, Fault, UnrulyCamera
from benchmarks.soak.whole_loop import whole_loop
from deploy.runtime.camera import CameraError, Patience
from deploy.runtime.loop.loop import Stop
from edgekp.artifact import Artifact, open_artifact
from edgekp.errors import EdgekpError

FPS = 200.0
MOST_FAULTS, MOST_APART = 6, 8  # of a script; good pictures between two
FRAMES = MOST_FAULTS * MOST_APART + 10  # so that all have taken place
STUCK_S, DAMAGED_S, GIVE_UP_S = 0.15, 0.05, 0.3
ENOUGH_S = 30.0
AMOUNTS = {"drop": (1, 30), "stall": (0.005, 0.1), "hang": (0.2, 0.6), "refuse": (1, 4), "hang_open": (0.2, 0.6),
           "damage": (1, 10), "damage_for_long": (0.06, 0.15)}
FOR_GOOD = 10**9  # refusals
CRASHES = (EdgekpError, cv2.error, ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError,
           TypeError, ValueError)


@dataclass(frozen=True)
class Script:
    """Faults in their order, and whether the camera comes back after the last."""

    faults: tuple[Fault, ...]
    comes_back: bool

    @property
    def may_end(self) -> bool:
        """Whether a ``CameraError`` is right: the camera stays away, or is faulty before its first picture."""
        return not self.comes_back or self.faults[0].after == 0


def scripts(count: int, seed: int) -> Iterator[Script]:
    """Each kind is the first fault of a script in turn; every tenth camera stays away for good."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    for number in range(count):
        chosen = [kinds[number % len(kinds)], *rng.choice(kinds, int(rng.integers(MOST_FAULTS - 1))).tolist()]
        faults = [Fault(int(rng.integers(MOST_APART)), kind, float(rng.uniform(*AMOUNTS.get(kind, (0, 1)))))
                  for kind in chosen]
        comes_back = number % 10 != 9
        yield Script((*faults, *([] if comes_back else [Fault(3, "refuse", FOR_GOOD)])), comes_back)


def camera_faults(count: int, seed: int) -> Outcome:
    with TemporaryDirectory() as folder:
        artifact = open_artifact(write_steady_artifact(Path(folder) / "artifact"), "onnx")
        return tally("camera faults", [verdict(artifact, script, seed) for script in scripts(count, seed)])


def verdict(artifact: Artifact, script: Script, seed: int) -> str:
    """What became of one script."""
    before, said = Held.now(), io.StringIO()
    unruly = UnrulyCamera(lambda _: Drawn(crowd), iter(script.faults), fps=FPS, seed=seed)
    crowd = Crowd(hold_s=0.05)
    with TemporaryDirectory() as folder, redirect_stderr(said):
        try:
            differences = _run(artifact, script, unruly, crowd, Path(folder))
        except CRASHES as error:
            unruly.let_go.set()
            ended_well = isinstance(error, CameraError) and script.may_end and not unruly.given
            differences = {} if ended_well else None
    if differences is None or not _given_back(before):
        return "lost"
    return "silent" if any(differences.values()) or "secret" in said.getvalue() else "survived"


def _run(artifact: Artifact, script: Script, unruly: UnrulyCamera, crowd: Crowd, folder: Path) -> dict[str, int] | None:
    """Differences between the accounts; None if it stood still.

    Raises:
        CameraError: The camera never gave a picture, or came back no more although it should have.
    """
    stop, patience = Stop(), Patience(start_s=3.0, stuck_s=STUCK_S, damaged_s=DAMAGED_S, pauses_s=(0.002, 0.01),
                                      close_s=0.5, give_up_s=None if script.comes_back else GIVE_UP_S)
    watch = Timer(ENOUGH_S, lambda: setattr(stop, "asked", True))
    watch.start()
    try:
        with whole_loop(artifact, unruly, crowd, folder, patience) as whole:
            try:
                whole.loop.run(FRAMES, stop)
                ended = script.comes_back and not stop.asked
            except CameraError:
                ended = not script.comes_back
    finally:
        watch.cancel()
    unruly.let_go.set()
    time.sleep(0.05)
    if not ended:
        return None
    counts, written = whole.camera.counts, read_back(folder)
    return unaccounted(counts, unruly, counts.handed_out, written)


def _given_back(before: Held, within_s: float = 5.0) -> bool:
    """Whether threads and files are soon what they were."""
    deadline = time.monotonic() + within_s
    while (now := Held.now()).threads > before.threads or now.files > before.files:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
