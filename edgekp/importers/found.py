"""What passes between the readers of foreign formats and the writer of COCO. Knows no format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgekp.sample import Float
from edgekp.skeletons import Skeleton


@dataclass(frozen=True)
class Wanted:
    """What a reader is asked for.

    Attributes:
        images: folder of the image files; None where the format itself says it.
        first_pixel: the coordinate that the file gives to the centre of the first pixel. We call it 0, so every
            reader subtracts this from the keypoints. Boxes and outlines count from the image's left and upper edge
            in all these tools, as our boxes do, and stay.
    """

    skeleton: Skeleton
    images: Path | None
    first_pixel: float


@dataclass(frozen=True)
class Found:
    """One instance, in our pixel convention.

    Attributes:
        where: file and place, for messages.
        image: file name relative to the folder of the images.
        keypoints: (K, 3) x, y, v of the wanted skeleton; v: 0 not labelled, 1 hidden, 2 visible.
        bbox_xywh, bbox_source: the box where the format has one, and what it is.
        area_px2, area_source: the same for the area.
        declared_wh: size of the image as the tool saw it.
        head_size_px: what PCKh divides by (MPII).
    """

    where: str
    image: str
    keypoints: Float
    bbox_xywh: Float | None = None
    bbox_source: str = ""
    area_px2: float | None = None
    area_source: str = ""
    declared_wh: tuple[int, int] | None = None
    head_size_px: float | None = None


@dataclass(frozen=True)
class Reading:
    """All that a reader found.

    Attributes:
        images: the folder that the instances' image names are relative to.
        left_out: how many of what was not taken over, and why.
        notes: other things a user should know.
    """

    images: Path
    found: list[Found]
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """A foreign format.

    Attributes:
        read: ``read(source, wanted, **options)``.
        source: what SRC is, for the help.
        first_pixel: see ``Wanted``.
        skeleton: the default; "" where the user must name one. ``one_skeleton``: no other makes sense.
        shown_upright: the tool turns images by their EXIF orientation, so its coordinates are not the stored pixels'.
        has_boxes: every instance comes with a box.
    """

    read: Callable[..., Reading]
    source: str
    first_pixel: float
    skeleton: str = ""
    one_skeleton: bool = False
    shown_upright: bool = False
    has_boxes: bool = False
