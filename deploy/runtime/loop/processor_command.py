"""The command of a runtime that computes on the processor: run_onnx.py and run_tflite.py are its two names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from deploy.runtime.frame import Estimator
from deploy.runtime.host_estimator import HostEstimator
from deploy.runtime.loop.command import run_on_camera
from deploy.runtime.loop.options import at_least_one, camera_parser
from deploy.runtime.session import open_session
from edgekp.artifact import Artifact


def run_on_processor(prog: str, runtime: str, target: str, kind: str, argv: Sequence[str] | None = None) -> int:
    """Exit code of the command ``prog``, which runs the newest export for ``target``, of that kind, by ``runtime``."""
    parser = camera_parser(prog, runtime, target)
    parser.add_argument("--threads", type=at_least_one, default=1, metavar="N",
                        help="of the network; reading and drawing have their own (default: %(default)s)")
    return run_on_camera(parser, target, kind, _open_estimator, argv)


def _open_estimator(artifact: Artifact, arguments: argparse.Namespace) -> Estimator:
    return HostEstimator(open_session(artifact, arguments.threads), artifact.contract)
