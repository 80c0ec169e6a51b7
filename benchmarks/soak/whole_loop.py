"""The real loop before an unruly camera: everything of run_onnx.py but its options. Judges nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from benchmarks.soak.crowd import Crowd
from benchmarks.soak.unruly_camera import UnrulyCamera
from deploy.runtime.camera import Camera, Patience
from deploy.runtime.camera.source import Source
from deploy.runtime.frame import Frame
from deploy.runtime.host_estimator import HostEstimator
from deploy.runtime.loop.json_lines import json_lines
from deploy.runtime.loop.loop import Loop
from deploy.runtime.loop.outputs import Outputs
from deploy.runtime.loop.video_file import VideoFile
from deploy.runtime.people.find_people import PeopleFinder
from deploy.runtime.people.smoothing import OneEuro
from deploy.runtime.people.track import Tracker
from deploy.runtime.session import open_session
from edgekp.artifact import Artifact

LINES, VIDEO, NUMBERS = "out.jsonl", "out.mkv", "handed_out.txt"  # Matroska: no index grows in memory
SCORE, MOST_PEOPLE = 0.3, 50  # as the options have them


class NotingCamera(Camera):
    """A camera that notes, in a file, the number and size of each frame it hands out."""

    notes: TextIO

    def next(self, timeout_s: float = 2.0) -> Frame | None:
        frame = super().next(timeout_s)
        if frame is not None:
            print(frame.number, frame.bgr.shape[1], frame.bgr.shape[0], file=self.notes)
        return frame


@dataclass(frozen=True)
class WholeLoop:
    """A loop that is ready to run, and what it is made of."""

    loop: Loop
    camera: NotingCamera
    outputs: Outputs


@contextmanager
def _quiet_deaths() -> Iterator[None]:
    """Readers that die of ``MemoryError`` are part of the faults, and leave no traceback."""
    before = threading.excepthook
    threading.excepthook = lambda args: None if args.exc_type is MemoryError else before(args)
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def whole_loop(artifact: Artifact, unruly: UnrulyCamera, crowd: Crowd, folder: Path, patience: Patience,
               prepare: Callable[[Outputs], None] = lambda _: None) -> Iterator[WholeLoop]:
    """Threads run and files are open within; ``folder`` gets LINES, VIDEO and NUMBERS."""
    with ExitStack() as stack:
        stack.enter_context(_quiet_deaths())
        notes = stack.enter_context((folder / NUMBERS).open("w"))
        lines = stack.enter_context(json_lines(str(folder / LINES)))
        source = Source("unruly", True, unruly.open, "it is unruly")
        camera = NotingCamera(source, every_frame=False, patience=patience)
        stack.enter_context(camera)
        camera.notes = notes
        video = stack.enter_context(VideoFile(folder / VIDEO, unruly.fps))
        estimator = stack.enter_context(closing(HostEstimator(open_session(artifact, 1), artifact.contract)))
        tracker = Tracker(artifact.contract.skeleton, most_people=MOST_PEOPLE, score=SCORE, smoothing=OneEuro())
        finder = PeopleFinder("track", tracker, crowd.detect, most_people=MOST_PEOPLE)
        with Outputs(artifact.contract.skeleton, lines, video, has_window=False, least_score=SCORE) as outputs:
            prepare(outputs)
            yield WholeLoop(Loop(camera, estimator, finder, tracker, outputs, None), camera, outputs)
