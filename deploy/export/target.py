"""Targets: what a device wants, as data in ``deploy/targets/*.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekp.errors import RecipeError, unknown_name
from edgekp.strict import read_toml, strict

FOLDER = Path(__file__).parent.parent / "targets"


@dataclass(frozen=True)
class Target:
    """What an export must look like.

    Attributes:
        name: that of its file.
        format: file format of the model.
        spelling: how the int8 grid is written, see ``deploy/export/qdq.py``.
        opset: of ONNX files, the newest that the oldest runtime there reads, unless the recipe names one.
        batch: of a call: ``free`` for any, or 1 where a runtime plans better for a size that it knows.
        float16: whether a second ONNX file has in float16 what the first one has in float32.
        channel_multiple: layers with a multiple of so many channels are fast there, others waste a part of the time.
        weights: how float layers store them, in a tflite file; ``int8`` is the dynamic range.
        next_step: what a user does with the artifact, printed after the export.
    """

    name: str
    format: Literal["onnx", "tflite", "torchscript", "openvino"]
    spelling: Literal["int8", "uint8"]
    next_step: str
    opset: int = 17
    batch: Literal["free", 1] = "free"
    float16: bool = False
    channel_multiple: int = 8
    weights: Literal["float32", "float16", "int8"] = "float32"

    def __post_init__(self) -> None:
        if not 13 <= self.opset <= 20:
            raise RecipeError(f"targets/{self.name}.opset: {self.opset}, expected 13 (scales per channel) to 20")


def target_named(name: str) -> Target:
    """The target of that name, or a RecipeError that lists the known ones."""
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if name not in known:
        raise RecipeError(unknown_name("target", name, known))
    return strict(Target, {"name": name, **read_toml(FOLDER / f"{name}.toml")}, f"targets/{name}")
