"""The command of TensorRT: an engine that fits this machine, built if there is none, between the CUDA kernels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack

from deploy.runtime.frame import Estimator
from deploy.runtime.loop.command import run_on_camera
from deploy.runtime.loop.options import camera_parser
from edgekp.artifact import Artifact

TARGET = "jetson"


def run_on_tensorrt(prog: str, argv: Sequence[str] | None = None) -> int:
    """Exit code of the command ``prog``."""
    return run_on_camera(camera_parser(prog, "TensorRT", TARGET), TARGET, "onnx", _open_estimator, argv)


def _open_estimator(artifact: Artifact, arguments: argparse.Namespace) -> Estimator:
    """Imports what only a machine with a GPU has, so that ``--help`` and wrong arguments are answered anywhere."""
    from deploy.runtime.gpu.backend import open_driver
    from deploy.runtime.gpu.estimator import GpuEstimator
    from deploy.runtime.gpu.kernel_cache import load_kernels
    from deploy.runtime.trt.builder import build_engine
    from deploy.runtime.trt.engine import machine_of, open_engine
    from deploy.runtime.trt.module import import_tensorrt
    from deploy.runtime.trt.stamp import why_stale

    trt = import_tensorrt()
    with ExitStack() as undo:
        driver = open_driver()
        undo.callback(driver.close)
        kernels = load_kernels(driver)
        if why_stale(artifact, machine_of(driver.gpu, trt)):
            build_engine(artifact, driver.gpu, trt=trt)
        engine = open_engine(artifact, driver, trt)
        undo.pop_all()  # from here on the estimator closes them
        return GpuEstimator(artifact.contract, engine, driver, kernels)
