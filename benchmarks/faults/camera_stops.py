"""Signals and kills at random moments of ``run_onnx.py --json --save``: what is on the disk afterwards is whole.

survived  SIGINT, SIGTERM: exit code 0, or where a second signal came 130, or that signal's own when all files were
          closed already; a line for each picture of the video, all whole and in order. SIGKILL: only the last line
          may be cut
lost      another exit code, a traceback, no end within ``ENOUGH_S``, or a video that cannot be read
silent    it ended well, but a line is cut or out of order, or the video has other pictures
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.faults.outcome import Outcome, tally
from benchmarks.soak.accounts import pictures_in
from benchmarks.soak.crowd import Crowd
from benchmarks.soak.network import write_steady_artifact

ROOT = Path(__file__).resolve().parents[2]
WAYS: tuple[tuple[signal.Signals, ...], ...] = (
    (signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT))
KILL = (signal.SIGKILL,)
LATEST_S, BETWEEN_S, ENOUGH_S = 1.0, 0.02, 60.0
PICTURES, SIZE_WH = 60, (320, 240)


@dataclass(frozen=True)
class Ended:
    """What a stopped run left."""

    code: int
    stderr: str
    text: str
    pictures: int

    @property
    def numbers(self) -> list[int]:
        """Of the frames whose lines end in a newline."""
        return [json.loads(line)["frame"] for line in self.text.splitlines(keepends=True) if line.endswith("\n")]


def camera_signals(count: int, seed: int) -> Outcome:
    """Both signals, once and twice, in turn."""
    return tally("signals while a camera runs", _verdicts([WAYS[number % len(WAYS)] for number in range(count)], seed))


def camera_kills(count: int, seed: int) -> Outcome:
    return tally("kill -9 while a camera runs", _verdicts([KILL] * count, seed))


def _verdicts(ways: Sequence[tuple[signal.Signals, ...]], seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        return [verdict(stopped(folder, way, rng), way) for way in ways]


def prepare(folder: Path) -> None:
    """An artifact and a video for ``stopped``."""
    write_steady_artifact(folder / "artifact")
    write_video(folder / "crowd.mkv")


def write_video(path: Path) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, SIZE_WH)
    now_s = [0.0]
    crowd = Crowd(hold_s=0.4, clock=lambda: now_s[0])
    for number in range(PICTURES):
        now_s[0] = number / 30
        video.write(crowd.picture(SIZE_WH))
    video.release()


def stopped(folder: Path, way: Sequence[signal.Signals], rng: np.random.Generator) -> Ended:
    """Start the command, send it the signals at a random moment after the first frame is done, and wait."""
    lines, video = folder / "out.jsonl", folder / "out.mkv"
    for path in (lines, video):
        path.unlink(missing_ok=True)
    command = [sys.executable, "deploy/run_onnx.py", "--artifact", str(folder / "artifact"), "--camera",
               str(folder / "crowd.mkv"), "--loop", "--no-window", "--json", str(lines), "--save", str(video)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not (lines.exists() and lines.stat().st_size) and running.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, LATEST_S))
        for number in way:
            running.send_signal(number)
            time.sleep(rng.uniform(0, BETWEEN_S))
        stderr = running.communicate(timeout=ENOUGH_S)[1]
    except subprocess.TimeoutExpired:
        running.kill()
        stderr = running.communicate()[1]
    return Ended(running.returncode, stderr, lines.read_text() if lines.exists() else "", pictures_in(video))


def verdict(ended: Ended, way: Sequence[signal.Signals]) -> str:
    """What became of one run."""
    codes = {-signal.SIGKILL} if way == KILL else {0} if len(way) == 1 else {0, 130, -way[1]}
    if ended.code not in codes or "Traceback" in ended.stderr:
        return "lost"
    try:
        numbers = ended.numbers
    except json.JSONDecodeError:
        return "silent"
    in_order = numbers == list(range(len(numbers)))  # of a file, every frame
    if way == KILL:
        return "survived" if in_order and ended.pictures <= len(numbers) + 1 else "silent"
    whole = ended.text.endswith("\n") or not ended.text
    if numbers and not ended.pictures:
        return "lost"
    return "survived" if in_order and whole and ended.pictures == len(numbers) else "silent"
