"""What a family of detectors is: its input, its outputs' shapes and what they mean. Knows none of the families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deploy.runtime.detectors.detections import Candidates
from deploy.runtime.detectors.letterbox import Letterbox
from edgekp.errors import ArtifactError
from edgekp.sample import Float, Int

Outputs = dict[str, Float]
STRIDES = (8, 16, 32)
STRIDES_OF_LARGE = (8, 16, 32, 64)  # the "P6" models


@dataclass(frozen=True)
class Seen:
    """What a file shows of itself, to tell the families apart.

    Attributes:
        outputs: by name, for an input without a picture in it, in the file's order.
        input_hw: size of that input.
        readers: operators that read the input, such as ``Conv``.
    """

    outputs: Outputs
    input_hw: tuple[int, int]
    readers: frozenset[str]


@dataclass(frozen=True)
class Layout:
    """One family.

    Attributes:
        looks: the outputs in words, for whoever has another model.
        letterbox: how its input is made.
        most_overlap: intersection over union above which the lesser box goes; None where the graph sees to it.
        fits: could these be its outputs, by names and shapes?
        candidates: boxes of a class that reach a score, from outputs and the input's size.
        told_by: of families with the same shapes, is it this one? By values or operators.
    """

    looks: str
    letterbox: Letterbox
    most_overlap: float | None
    fits: Callable[[Seen], bool]
    candidates: Callable[[Outputs, tuple[int, int], int, float], Candidates]
    told_by: Callable[[Seen], bool] = lambda _seen: True


def cell_count(input_hw: tuple[int, int], strides: tuple[int, ...]) -> int:
    """How many cells the grids of all strides have together."""
    return sum((input_hw[0] // stride) * (input_hw[1] // stride) for stride in strides)


@lru_cache(maxsize=16)
def grid(input_hw: tuple[int, int], strides: tuple[int, ...], per_cell: int = 1) -> tuple[Float, Float]:
    """(N, 2) column and row of each cell, stride by stride and row by row, and (N, 1) its stride. Not to be changed."""
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[:input_hw[0] // stride, :input_hw[1] // stride]
        cells.append(np.repeat(np.stack([columns, rows], axis=-1).reshape(-1, 2), per_cell, axis=0))
        sizes.append(np.full((len(cells[-1]), 1), stride))
    xy, stride_px = np.concatenate(cells).astype(np.float64), np.concatenate(sizes).astype(np.float64)
    xy.flags.writeable = stride_px.flags.writeable = False
    return xy, stride_px


def the_tensor(outputs: Outputs) -> Float:
    """The one with the boxes: (1, N, C), and the first where more follow, such as masks."""
    return next(iter(outputs.values()))


def column_of_class(class_id: int, classes: int) -> int:
    """``class_id``, if there is such a class."""
    if not 0 <= class_id < classes:
        raise ArtifactError(f"no class {class_id}; this detector has {classes}, expected 0 to {classes - 1}")
    return class_id


def from_cells(said: Float, found: Int, input_hw: tuple[int, int], strides: tuple[int, ...]) -> Float:
    """(N, 4) corners of boxes that were said in strides of their cells: centre from the cell's corner, log of the size.

    Args:
        said: (N, 4) the outputs of the cells ``found``.
    """
    cells, stride_px = grid(input_hw, strides)
    boxes = said.astype(np.float64)
    return from_centres(np.concatenate([boxes[:, :2] + cells[found], np.exp(boxes[:, 2:])], axis=1) * stride_px[found])


def from_centres(center_xywh: Float) -> Float:
    """(N, 4) corners of boxes given by centre, width and height."""
    half = center_xywh[:, 2:] / 2
    return np.concatenate([center_xywh[:, :2] - half, center_xywh[:, :2] + half], axis=1)
