"""``python deploy/build_engine.py ARTIFACT_DIR``: the TensorRT engine of an exported model, built on its own machine.

Runs from a bare checkout; needs numpy, cv2, TensorRT, and pycuda or cuda-python.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.runtime.trt.layers import counted
from deploy.runtime.trt.order import PRECISIONS, Order, require_onnx
from deploy.runtime.trt.stamp import ENGINE, Stamp
from edgekp.artifact import open_artifact
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import EngineError
from edgekp.printable import printable


def _build(arguments: argparse.Namespace) -> int:
    from deploy.runtime.trt.builder import build_engine
    from deploy.runtime.trt.module import import_tensorrt

    artifact = open_artifact(arguments.artifact)
    require_onnx(artifact)
    trt = import_tensorrt()
    order = Order(arguments.precision, arguments.max_batch, arguments.dla, arguments.workspace_mb)
    from deploy.runtime.gpu.backend import open_driver
    driver = open_driver()
    try:
        stamp = build_engine(artifact, driver.gpu, order, force=arguments.force, trt=trt)
    finally:
        driver.close()
    print(_facts(artifact.folder / ENGINE, stamp))
    if arguments.json:
        _write_json(arguments.json, stamp)
    return 0


def _facts(path: Path, stamp: Stamp) -> str:
    request, machine = stamp.request, stamp.machine
    typed = "strongly typed" if request.strongly_typed else "weakly typed, by flags"
    return "\n".join(printable(f"{name:<10} {value}") for name, value in {
        "engine": f"{path}  {stamp.size_bytes / 1e6:.1f} MB, runs in {stamp.memory_bytes / 1e6:.1f} MB more",
        "machine": f"{machine.gpu}, compute capability {machine.capability}, TensorRT {machine.tensorrt}",
        "precision": f"{request.precision} from {request.onnx}, {typed}",
        "layers": counted(stamp.layers) or "TensorRT does not tell",
        "batch": f"1 to {request.max_batch}",
        "built in": f"{stamp.build_seconds:.1f} s",
    }.items())


def _write_json(path: Path, stamp: Stamp) -> None:
    try:
        write_file(path, json.dumps(asdict(stamp), indent=1) + "\n")
    except OSError as error:
        raise EngineError(f"{path}: cannot be written ({error.strerror}); --json wants a file") from error


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}', expected a whole number from 1 on")
    return int(text)


def _core(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}', expected the number of a DLA core, 0 or 1")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python deploy/build_engine.py",
                                     description="Build the TensorRT engine of an exported model on this machine.")
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT_DIR", help="an ONNX export, runs/R/export/jetson")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto",
                        help="default: int8 for a quantized model, else fp16")
    parser.add_argument("--max-batch", type=_positive, metavar="N",
                        help="largest number of people at once (default: 8; 1 for models of whole scenes)")
    parser.add_argument("--dla", type=_core, metavar="CORE", help="run what it takes on this DLA core, the rest on the "
                        "GPU")
    parser.add_argument("--workspace-mb", type=_positive, metavar="N", help="most scratch memory of a layer while "
                        "kernels are chosen (default: all there is)")
    parser.add_argument("--force", action="store_true", help="build even if the engine is up to date")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what engine.json says of the engine here, too")
    add_debug(parser)
    return run(_build, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
