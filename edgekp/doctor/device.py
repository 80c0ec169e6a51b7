"""What a device has for running models, a line a part, and which command can run one. Needs no package but Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from edgekp.doctor.device_board import board_lines
from edgekp.doctor.device_cameras import camera_lines
from edgekp.doctor.device_cuda import cuda_lines
from edgekp.doctor.device_line import Line, Machine
from edgekp.doctor.device_python import python_lines

EVERYWHERE = ("Python", "numpy", "OpenCV")
NEEDS = {"deploy/run_trt.py": (*EVERYWHERE, "TensorRT", "CUDA driver", "CUDA for Python", "CUDA compiler"),
         "deploy/run_onnx.py": (*EVERYWHERE, "ONNX Runtime"),
         "deploy/run_tflite.py": (*EVERYWHERE, "LiteRT")}


def examine(machine: Machine) -> list[Line]:
    return [*board_lines(machine), *python_lines(machine), *cuda_lines(machine), *camera_lines(machine)]


def lacking(lines: Sequence[Line]) -> dict[str, list[str]]:
    """For each command the parts that it lacks; none where it can run."""
    missing = {line.part for line in lines if line.state == "missing"}
    return {command: [part for part in parts if part in missing] for command, parts in NEEDS.items()}


def text(lines: Sequence[Line]) -> str:
    """A table with what mends each part below it, then what can run."""
    state, part = (max(len(getattr(line, column)) for line in lines) for column in ("state", "part"))
    said = [row for line in lines for row in (
        f"{line.state:{state}}  {line.part:{part}}  {line.found}",
        *([f"{'':{state}}  {'':{part}}  mend: {line.mend}"] if line.mend else []))]
    return "\n".join([*said, "", *(f"{command}: " + (f"lacks {', '.join(parts)}" if parts else "can run")
                                   for command, parts in lacking(lines).items())])


def records(lines: Sequence[Line]) -> str:
    """The same as JSON."""
    return json.dumps({"parts": [asdict(line) for line in lines], "lacking": lacking(lines)}, indent=1)
