"""What is in a set, in numbers: instances an image, sizes of boxes, labelled keypoints by name. Judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekp.doctor.dataset import DataSet
from edgekp.sample import Float, Int

INSTANCES = (0, 1, 2, 3, 5, 10, 20)  # left edges of the bins, an image
SIDES_PX = (0, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024)  # of a box's longer side


@dataclass(frozen=True)
class Bar:
    """A row of a histogram.

    Attributes:
        parts: shares of the bar that are drawn, in 0..1 of the longest bar, side by side.
    """

    label: str
    count: int
    parts: tuple[float, ...]


@dataclass(frozen=True)
class Summary:
    """What one file holds."""

    name: str
    line: str
    histograms: dict[str, list[Bar]]


def summary_of(data: DataSet) -> Summary:
    instances = np.bincount(data.image_row[data.counts & (data.image_row >= 0)], minlength=len(data.images))
    sides = data.bbox_xywh[data.counts & data.has_box, 2:].max(-1)
    visible, hidden = (((data.visibility == v) & data.counts[:, None]).sum(0) for v in (2, 1))
    most = max(1, int((visible + hidden).max(initial=0)))
    named = [Bar(name, int(seen + unseen), (seen / most, unseen / most))
             for name, seen, unseen in zip(data.skeleton.keypoints, visible, hidden, strict=True)]
    return Summary(data.name, line(data), {"instances per image": _bars(instances, INSTANCES),
                                           "longer side of the box, px": _bars(sides, SIDES_PX),
                                           "labelled keypoints": named})


def line(data: DataSet) -> str:
    """The size of a set in a few words."""
    return (f"{len(data.images)} images, {len(data.annotations)} annotations, {int(data.counts.sum())} of them with "
            f"keypoints, skeleton '{data.skeleton.name}'")


def _bars(values: Float | Int, edges: Sequence[int]) -> list[Bar]:
    """Counts between edges; the last bin is open."""
    counts = np.histogram(values, bins=[*edges, np.inf])[0]
    most = max(1, int(counts.max()))
    return [Bar(_label(low, high), int(count), (count / most,))
            for low, high, count in zip(edges, [*edges[1:], None], counts, strict=True)]


def _label(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} or more"
    return str(low) if high == low + 1 else f"{low} to {high - 1}"
