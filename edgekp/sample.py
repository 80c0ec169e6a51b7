"""THE table of shapes: what flows between annotation, network and metric. Knows no file format and no network.

    name             shape        unit and range
    image            (H, W, 3)    uint8, RGB
    keypoints_xy     (K, 2)       pixels of the image named beside it; a pixel's centre has integer coordinates
    visibility       (K,)         0 not labelled, 1 labelled but hidden, 2 visible (COCO)
    bbox_xywh        (4,)         pixels: x, y of the first pixel, then width and height
    area_px2         ()           pixels squared: COCO's segmentation area, the scale of OKS
    input            (3, h, w)    float32, normalised, in the colour order of the InputSpec
    scores           (K,)         confidence of each keypoint; 1 where a codec has none
    visible          (K,)         0..1, how likely a keypoint is visible rather than hidden; None where nobody says so

Batches put N in front. ``image pixels`` are those of the file, ``input pixels`` those of the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# In quotes, never evaluated: numpy 1.21, which a JetPack 6 brings, cannot subscript np.floating.
Float: TypeAlias = "npt.NDArray[np.floating[Any]]"
Int: TypeAlias = "npt.NDArray[np.integer[Any]]"
Bool = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageFile:
    """An image on disk, as the annotations describe it."""

    id: int
    path: str
    width: int
    height: int


@dataclass(frozen=True)
class Instance:
    """One annotated person or face; the pixels stay on disk until a stage asks for them."""

    id: int
    image: ImageFile
    keypoints_xy: Float
    visibility: Int
    bbox_xywh: Float
    area_px2: float

    @property
    def labelled(self) -> Bool:
        """(K,) True where a human gave a position, hidden or not."""
        return self.visibility > 0


@dataclass(frozen=True)
class Scene:
    """A whole image: its people, and what is known of others on it.

    Attributes:
        people: at least one, each with a labelled keypoint.
        others_xywh: (R, 4) boxes of single people without a labelled keypoint, image pixels.
        crowds_xywh: (C, 4) boxes of crowds, the same; ``people`` may be among them.
        complete: False where there may be more people, of whom the annotations say nothing.
    """

    image: ImageFile
    people: tuple[Instance, ...]
    others_xywh: Float
    crowds_xywh: Float
    complete: bool = True


@dataclass(frozen=True)
class Target:
    """What the network should say about a batch: one array per output, and how much each keypoint counts."""

    arrays: dict[str, Float]
    weight: Float  # (N, K), of whole scenes (N, h, w): 0 leaves a keypoint or a cell out of the loss


@dataclass(frozen=True)
class Prediction:
    """Keypoints of one instance in image pixels."""

    keypoints_xy: Float
    scores: Float
    visible: Float | None = None

    @property
    def score(self) -> float:
        """Confidence of the instance: the mean over its keypoints."""
        return float(self.scores.mean())
