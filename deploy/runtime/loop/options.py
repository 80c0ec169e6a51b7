"""The options that run_trt.py, run_onnx.py and run_tflite.py have in common. Opens nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.runtime.detectors import LAYOUTS
from deploy.runtime.people.find_people import POLICIES
from edgekp.cli import Parser, add_debug


def camera_parser(prog: str, runs_on: str, target: str) -> argparse.ArgumentParser:
    """A parser for a command that runs a model on a camera's pictures."""
    parser = Parser(prog=prog, description=f"Keypoints of the people before a camera, by {runs_on}.")
    parser.add_argument("--artifact", type=Path, metavar="DIR",
                        help=f"folder of an exported model (default: the newest runs/*/export/{target})")
    _add_input(parser.add_argument_group("what is looked at"))
    _add_people(parser.add_argument_group("who is looked for"))
    _add_output(parser.add_argument_group("what comes out"))
    add_debug(parser)
    return parser


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--camera", default="0", metavar="NAME",
                       help="0, /dev/video2, csi://0, rtsp://…, gst://PIPELINE, or a file (default: %(default)s)")
    group.add_argument("--size", type=width_and_height, metavar="WxH", help="ask the camera for pictures of this size")
    group.add_argument("--fps", type=above_zero, help="ask the camera for this rate")
    group.add_argument("--real-time", action="store_true",
                       help="play a file at its own rate and drop, like a camera, what is too much")
    group.add_argument("--loop", action="store_true", help="play a file again and again")
    group.add_argument("--frames", type=at_least_one, metavar="N", help="stop after so many")


def _add_people(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--boxes", choices=POLICIES, default="track",
                       help="where a model of single people looks: where they just were (track), where the detector "
                            "sees somebody (detect), at the whole picture (frame) (default: %(default)s)")
    group.add_argument("--detector", type=Path, metavar="ONNX", help="an ONNX detector of people, or of faces")
    group.add_argument("--detector-layout", choices=("auto", *LAYOUTS), default="auto",
                       help="family of the detector, if its outputs do not tell (default: %(default)s)")
    group.add_argument("--detect-every", type=at_least_one, default=15, metavar="N",
                       help="look for newcomers every so many frames (default: %(default)s)")
    group.add_argument("--most-people", type=at_least_one, default=50, metavar="N", help="(default: %(default)s)")
    group.add_argument("--score", type=share, default=0.3, metavar="S",
                       help="keypoints that score less are neither drawn nor counted on (default: %(default)s)")
    group.add_argument("--no-smoothing", action="store_true", help="keypoints as the network says them")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--save", type=Path, metavar="OUT.mp4", help="a video of what is drawn")
    group.add_argument("--json", metavar="OUT.jsonl", help="a line of JSON for each frame; - is the standard output")
    group.add_argument("--no-window", action="store_true", help="show nothing")


def width_and_height(text: str) -> tuple[int, int]:
    """Of ``1280x720``."""
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}', expected width x height in pixels, such as 1280x720")
    return int(width), int(height)


def at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}', expected a whole number above 0")
    return int(text)


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}', expected a number above 0")
    return value


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}', expected a number from 0 to 1")
    return value
