"""From an image and a box to the network's input and back: the only geometry in the project, used by every stage.

Pixel-centre convention: pixel i has its centre at i, so an image of width W reaches from -0.5 to W - 0.5, a box
(x, y, w, h) covers x - 0.5 to x + w - 0.5, and mirroring is x' = W - 1 - x, exactly, at every stride.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import cos, inf, radians, sin
from pathlib import Path
from typing import Any, Literal

import numpy as np

try:
    import cv2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("OpenCV is missing: pip install 'edgekp[run]'; on a Jetson apt install python3-opencv, "
                              "which knows its cameras") from error

from edgekp.errors import DataError, RecipeError
from edgekp.image_header import read_image_file
from edgekp.sample import Float, Image

INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
COLOR_ORDERS = ("RGB", "BGR")
Align = Literal["pixel_centers", "corners"]
ALIGNMENTS = ("pixel_centers", "corners")
DECODES_TO_RGB = hasattr(cv2, "IMREAD_COLOR_RGB")  # from OpenCV 4.11 on; swapping afterwards costs 0.8 ms of 5

# OpenCV 5 warps four channels 2.5 times as fast as three, to the same pixels; OpenCV 4 does not. Adding a fourth pays
# where the crop looks at fewer than about 15 image pixels for each input pixel.
FOUR_CHANNELS_ARE_FASTER = int(cv2.__version__.split(".")[0]) >= 5
FOUR_CHANNELS_PAY_BELOW = 12
LARGEST_SIDE = 4096  # of the network's input: a manifest or recipe that asks for more would only take the memory


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
        align: with ``pixel_centers`` the padded box covers the input's pixels from edge to edge; with ``corners`` its
            corners lie on the centres of the input's corner pixels, w - 1 apart: how networks with UDP (Huang et al.,
            CVPR 2020), such as ViTPose, were trained.
    """

    input_hw: tuple[int, int]
    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    resize: Literal["bilinear", "nearest"] = "bilinear"
    padding: float = 1.25
    pad_value: int = 0
    align: Align = "pixel_centers"

    def __post_init__(self) -> None:
        if min(self.input_hw) < 1 or max(self.input_hw) > LARGEST_SIDE:
            raise RecipeError(f"input.input_hw: {list(self.input_hw)}, expected pixels above 0, {LARGEST_SIDE} at most")
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
        if self.align not in ALIGNMENTS:
            raise RecipeError(f"input.align: '{self.align}', expected {' or '.join(ALIGNMENTS)}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def for_bgr_images(self) -> InputSpec:
        """The spec with which ``preprocess`` makes the same input from BGR images, as cameras give them, uncopied."""
        return replace(self, color="BGR" if self.color == "RGB" else "RGB")


def read_image(path: str | Path) -> Image:
    """(H, W, 3) RGB pixels of an image file, EXIF rotation ignored, as COCO's annotations are.

    Raises:
        DataError: The file is missing or damaged, claims too many pixels, or OpenCV cannot decode it.
    """
    pixels = decoded(path, cv2.IMREAD_COLOR_RGB if DECODES_TO_RGB else cv2.IMREAD_COLOR)
    return pixels if DECODES_TO_RGB else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def decoded(path: str | Path, flags: int) -> Image:
    """Pixels of an image file as OpenCV's ``flags`` want them, EXIF rotation ignored.

    Raises:
        DataError: As ``read_image``.
    """
    data = np.frombuffer(read_image_file(path), dtype=np.uint8)
    try:
        pixels = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # such as one side longer than OpenCV takes
        pixels = None
    if pixels is None:
        raise DataError(f"{path}: does not decode as an image; replace the file or drop it from the annotations")
    return np.asarray(pixels, dtype=np.uint8)


def frame_xywh(image: Image) -> Float:
    """(4,) the box around all of an image."""
    return np.array([0.0, 0.0, image.shape[1], image.shape[0]])


def crop_affine(bbox_xywh: Float, input_hw: tuple[int, int], padding: float, *, align: Align = "pixel_centers",
                scale: float = 1.0, rotation_deg: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Float:
    """Image to input pixels, (2, 3): the box, enlarged to the input's aspect ratio, fills the input.

    Args:
        align: as in ``InputSpec``; ``corners`` is the matrix of mmpose's ``get_udp_warp_matrix``.
        scale: enlarges the crop further, so that 2 shows the box at half its size.
        rotation_deg: turns what is seen, counter-clockwise on the screen.
        shift: moves the crop, as a fraction of its own width and height.
    """
    x, y, w, h = (float(v) for v in bbox_xywh)
    input_h, input_w = input_hw
    image_px = max(w / input_w, h / input_h) * padding * scale  # image pixels per input pixel
    crop_w, crop_h = input_w * image_px, input_h * image_px
    border = 0 if align == "corners" else 1  # half a pixel beyond the outermost centres, on either side
    center = (x + (w - border) / 2 + shift[0] * crop_w, y + (h - border) / 2 + shift[1] * crop_h)
    zoom_x, zoom_y = (input_w - 1 + border) / crop_w, (input_h - 1 + border) / crop_h
    turn_x, turn_y = cos(radians(rotation_deg)), sin(radians(rotation_deg))
    linear = np.array([[zoom_x * turn_x, zoom_x * turn_y], [-zoom_y * turn_y, zoom_y * turn_x]])
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
    rows, columns = _looked_at(image, image_to_input, spec.input_hw)
    seen = image[rows, columns]
    seen_to_input = image_to_input.copy()
    seen_to_input[:, 2] += image_to_input[:, :2] @ (columns.start, rows.start)
    in_four = FOUR_CHANNELS_ARE_FASTER and seen.size < FOUR_CHANNELS_PAY_BELOW * 3 * h * w
    warped = cv2.warpAffine(cv2.cvtColor(seen, cv2.COLOR_RGB2RGBA) if in_four else seen, seen_to_input, (w, h),
                            flags=INTERPOLATIONS[spec.resize], borderMode=cv2.BORDER_CONSTANT,
                            borderValue=(spec.pad_value,) * 4)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB) if in_four else warped, dtype=np.uint8)


def _looked_at(image: Image, image_to_input: Float, input_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the image that the input's pixels are interpolated from."""
    h, w = input_hw
    corners = np.array([[[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]]], np.float32)
    x, y, across, down = cv2.boundingRect(cv2.transform(corners, cv2.invertAffineTransform(image_to_input)))
    return _existing(y, down, image.shape[0]), _existing(x, across, image.shape[1])


def _existing(first: int, count: int, size: int) -> slice:
    """Those of the pixels ``first`` to ``first + count`` and their neighbours that are in the image; at least one."""
    margin = 2  # bilinear interpolation reads one further; another for rounding
    return slice(min(max(first - margin, 0), size - 1), max(min(first + count + margin, size), 1))


def normalise(cropped: Image, spec: InputSpec, out: Float | None = None) -> Float:
    """(3, h, w) float32 input from an (h, w, 3) uint8 RGB crop.

    Args:
        out: (3, h, w) float32 array to write into, such as a row of a batch; by default a new one.
    """
    normalised = np.empty((3, *cropped.shape[:2]), np.float32) if out is None else out
    planes = [np.empty(cropped.shape[:2], np.uint8) for _ in range(3)]
    cv2.split(cropped, planes)  # into planes that are there: 4 us, into its own 20
    ordered = planes if spec.color == "RGB" else planes[::-1]
    for plane, mean, std, row in zip(ordered, spec.mean, spec.std, normalised, strict=True):
        row[...] = plane  # a plane stays in the cache for all three passes
        np.subtract(row, mean, out=row)
        np.divide(row, std, out=row)
    return normalised


def preprocess(image: Image, bbox_xywh: Float, spec: InputSpec, out: Float | None = None) -> tuple[Float, Float]:
    """The network's input (3, h, w) and the affine (2, 3) from input pixels back to image pixels.

    Args:
        out: as for ``normalise``.
    """
    image_to_input = crop_affine(bbox_xywh, spec.input_hw, spec.padding, align=spec.align)
    return normalise(crop(image, image_to_input, spec), spec, out), invert(image_to_input)
