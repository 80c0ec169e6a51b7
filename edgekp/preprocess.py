"""From an image and a box to the network's input and back: the only geometry in the project, used by every stage.

Pixel-centre convention: pixel i has its centre at i, so an image of width W reaches from -0.5 to W - 0.5, a box
(x, y, w, h) covers x - 0.5 to x + w - 0.5, and mirroring is x' = W - 1 - x, exactly, at every stride.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np

try:
    import cv2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("OpenCV is missing: pip install 'edgekp[run]'; on a Jetson apt install python3-opencv, "
                              "which knows its cameras") from error

from edgekp.errors import DataError, RecipeError
from edgekp.sample import Float, Image

INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
COLOR_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class InputSpec:
    """How pixels become the network's input.

    Attributes:
        input_hw: height and width of the input, pixels.
        color: order of the input's three channels.
        mean, std: per channel, in the range 0..255 and in the order of ``color``.
        resize: interpolation of the warp.
        padding: the box is enlarged by this factor before the crop.
        pad_value: 0..255, fills what lies outside the image, in the order of ``color``.
    """

    input_hw: tuple[int, int]
    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    resize: Literal["bilinear", "nearest"] = "bilinear"
    padding: float = 1.25
    pad_value: int = 0

    def __post_init__(self) -> None:
        if min(self.input_hw) < 1:
            raise RecipeError(f"input.input_hw: {list(self.input_hw)}, expected pixels above 0")
        if self.color not in COLOR_ORDERS:
            raise RecipeError(f"input.color: '{self.color}', expected {' or '.join(COLOR_ORDERS)}")
        if self.resize not in INTERPOLATIONS:
            raise RecipeError(f"input.resize: '{self.resize}', expected {' or '.join(INTERPOLATIONS)}")
        if not all(0 < std < inf for std in self.std):
            raise RecipeError(f"input.std: {list(self.std)}, expected numbers above 0; the input is divided by them")
        if not 0 < self.padding < inf:
            raise RecipeError(f"input.padding: {self.padding}, expected a factor above 0; 1 is the box itself")
        if not 0 <= self.pad_value <= 255:
            raise RecipeError(f"input.pad_value: {self.pad_value}, expected 0 to 255")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_image(path: str | Path) -> Image:
    """(H, W, 3) RGB pixels of an image file, EXIF rotation ignored, as COCO's annotations are.

    Raises:
        DataError: The file is missing, or OpenCV cannot decode it.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error.strerror}); "
                        "check the file names and --images") from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(data, flags) if data.size else None
    if bgr is None:
        raise DataError(f"{path}: does not decode as an image; replace the file or drop it from the annotations")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def crop_affine(bbox_xywh: Float, input_hw: tuple[int, int], padding: float, *, scale: float = 1.0,
                rotation_deg: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Float:
    """Image to input pixels, (2, 3): the box, enlarged to the input's aspect ratio, fills the input.

    Args:
        scale: enlarges the crop further, so that 2 shows the box at half its size.
        rotation_deg: turns what is seen, counter-clockwise on the screen.
        shift: moves the crop, as a fraction of its own width and height.
    """
    x, y, w, h = (float(v) for v in bbox_xywh)
    input_h, input_w = input_hw
    px_per_input_px = max(w / input_w, h / input_h) * padding * scale
    center = np.array([x + (w - 1) / 2, y + (h - 1) / 2])
    center = center + np.asarray(shift) * px_per_input_px * np.array([input_w, input_h])
    angle = np.deg2rad(rotation_deg)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = rotation / px_per_input_px
    offset = np.array([(input_w - 1) / 2, (input_h - 1) / 2]) - linear @ center
    return np.concatenate([linear, offset[:, None]], axis=1)


def mirror_affine(affine: Float, input_w: int) -> Float:
    """The same crop seen in a mirror; keypoints also need ``Skeleton.flip_order``."""
    return compose(np.array([[-1.0, 0.0, input_w - 1.0], [0.0, 1.0, 0.0]]), affine)


def compose(second: Float, first: Float) -> Float:
    """(2, 3) affine that applies ``first``, then ``second``."""
    return np.concatenate([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2:] + second[:, 2:]], axis=1)


def invert(affine: Float) -> Float:
    """(..., 2, 3) affine that undoes ``affine``."""
    linear = np.linalg.inv(affine[..., :2])
    return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def transform(points_xy: Float, affine: Float) -> Float:
    """Apply (..., 2, 3) affines to (..., K, 2) points."""
    return points_xy @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def crop(image: Image, image_to_input: Float, spec: InputSpec) -> Image:
    """(h, w, 3) uint8: what the network sees before normalisation, in RGB."""
    h, w = spec.input_hw
    warped = cv2.warpAffine(image, image_to_input, (w, h), flags=INTERPOLATIONS[spec.resize],
                            borderMode=cv2.BORDER_CONSTANT, borderValue=(spec.pad_value,) * 3)
    return np.asarray(warped, dtype=np.uint8)


@lru_cache(maxsize=8)
def _normalisation_table(mean: tuple[float, ...], std: tuple[float, ...]) -> Float:
    """(3, 256) float32: the normalised value of each byte in each channel; faster than arithmetic on pixels."""
    levels = np.arange(256, dtype=np.float32)
    return (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


def normalise(cropped: Image, spec: InputSpec) -> Float:
    """(3, h, w) float32 input from an (h, w, 3) uint8 RGB crop."""
    table = _normalisation_table(spec.mean, spec.std)
    planes = cv2.split(cropped if spec.color == "RGB" else cropped[..., ::-1])
    return np.stack([cv2.LUT(plane, row) for plane, row in zip(planes, table, strict=True)])


def preprocess(image: Image, bbox_xywh: Float, spec: InputSpec) -> tuple[Float, Float]:
    """The network's input (3, h, w) and the affine (2, 3) from input pixels back to image pixels."""
    image_to_input = crop_affine(bbox_xywh, spec.input_hw, spec.padding)
    return normalise(crop(image, image_to_input, spec), spec), invert(image_to_input)
