"""run_trt.py, run_onnx.py and run_tflite.py: everything but how the model is run, which each of them hands in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from time import perf_counter

from deploy.runtime.camera import Camera, open_camera
from deploy.runtime.detectors import open_detector
from deploy.runtime.frame import Estimator
from deploy.runtime.loop.json_lines import json_lines
from deploy.runtime.loop.loop import Loop, Stop, stopped_by_signals
from deploy.runtime.loop.newest_export import newest_export
from deploy.runtime.loop.outputs import Outputs
from deploy.runtime.loop.video_file import VideoFile
from deploy.runtime.loop.window import Window, why_no_window
from deploy.runtime.people.find_people import Detect, PeopleFinder
from deploy.runtime.people.smoothing import OneEuro
from deploy.runtime.people.track import Tracker
from edgekp.artifact import Artifact, open_artifact
from edgekp.cli import run
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.printable import printable
from edgekp.stage import say

OpenEstimator = Callable[[Artifact, argparse.Namespace], Estimator]


def run_on_camera(parser: argparse.ArgumentParser, target: str, kind: str, open_estimator: OpenEstimator,
                  argv: Sequence[str] | None = None) -> int:
    """Exit code of a command that runs artifacts of one kind on a camera.

    Args:
        target: whose newest export is taken when none is named.
    """

    def main(arguments: argparse.Namespace) -> int:
        artifact = open_artifact(arguments.artifact or newest_export(target), kind)
        with stopped_by_signals() as stop, ExitStack() as stack:
            return _run(artifact, arguments, open_estimator, stack, stop)

    return run(main, parser, argv)


def _run(artifact: Artifact, arguments: argparse.Namespace, open_estimator: OpenEstimator, stack: ExitStack,
         stop: Stop) -> int:
    camera = stack.enter_context(open_camera(
        arguments.camera, every_frame=False if arguments.real_time else None, size_wh=arguments.size,
        fps=arguments.fps, loop=arguments.loop))
    lines = stack.enter_context(json_lines(arguments.json)) if arguments.json else None
    video = stack.enter_context(VideoFile(arguments.save, camera.fps)) if arguments.save else None
    estimator = stack.enter_context(closing(open_estimator(artifact, arguments)))
    tracker = Tracker(artifact.contract.skeleton, most_people=arguments.most_people, score=arguments.score,
                      smoothing=None if arguments.no_smoothing else OneEuro())
    finder = PeopleFinder(arguments.boxes, tracker, _detector(artifact, arguments, stack),
                          most_people=arguments.most_people, detect_every=arguments.detect_every)
    window = stack.enter_context(closing(Window())) if _wants_window(arguments) else None
    say(f"camera: {camera.describe()}")
    with Outputs(artifact.contract.skeleton, lines, video, has_window=window is not None,
                 least_score=arguments.score) as outputs, stop.at_the_next_frame():
        done = Loop(camera, estimator, finder, tracker, outputs, window).run(arguments.frames, stop)
    _tell(artifact, camera, outputs, done, to_stderr=arguments.json == "-")
    return 0


def _detector(artifact: Artifact, arguments: argparse.Namespace, stack: ExitStack) -> Detect | None:
    """From a picture to boxes; None where no detector was named.

    Raises:
        ArtifactError: The model finds people itself.
    """
    if arguments.detector is None:
        return None
    if not isinstance(artifact.contract, Contract):
        raise ArtifactError(f"{artifact.folder}: finds everybody in whole pictures; leave out --detector")
    detector = stack.enter_context(closing(open_detector(arguments.detector, layout=arguments.detector_layout)))
    say(f"detector: {detector.name}")
    return lambda bgr: detector.detect(bgr).boxes_xywh


def _wants_window(arguments: argparse.Namespace) -> bool:
    if arguments.no_window:
        return False
    if reason := why_no_window():
        say(f"window: none, {reason}; --save writes a video, --no-window keeps this line away")
    return reason is None


def _tell(artifact: Artifact, camera: Camera, outputs: Outputs, done: int, *, to_stderr: bool) -> None:
    """One line of results: on the standard output, unless that is full of JSON."""
    summary, counts = outputs.times.summary(perf_counter()), camera.counts
    stages = "  ".join(f"{stage.replace('_', ' ')} {ms['p50']:.2f}/{ms['p95']:.2f}"
                       for stage, ms in summary["ms"].items())
    print(printable(f"{artifact.folder}: {done} frames, {counts.dropped} dropped, {summary['fps']:.1f} fps; "
                    f"{stages} ms p50/p95"), file=sys.stderr if to_stderr else sys.stdout)
