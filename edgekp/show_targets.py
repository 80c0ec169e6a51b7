"""What the network is asked to learn, as one picture: crops, the targets of a codec over them, and these decoded again.

Knows no network; the targets are those of training, from the same codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgekp.codecs import SCENE_CODECS, Codec, Integral, SceneCodec
from edgekp.errors import DataError
from edgekp.preprocess import InputSpec, crop, crop_affine, frame_xywh, read_image, transform
from edgekp.sample import Bool, Float, Image, Instance, Int
from edgekp.skeletons import COCO17, OPENPOSE18, Skeleton, openpose_from_coco

PANEL_PX = 288  # longer side of a panel
CAPTION_PX = 22
INK, PAPER = (235, 235, 235), (24, 24, 24)
VISIBLE_RGB, HIDDEN_RGB, DROPPED_RGB, DECODED_RGB = (64, 220, 96), (255, 170, 0), (255, 64, 64), (0, 200, 255)


@dataclass(frozen=True)
class View:
    """What a network is shown, and the people on it.

    Attributes:
        pixels: (h, w, 3) the input before normalisation.
        keypoints_xy: (P, K, 2) input pixels; a top-down codec sees one person.
        visibility: (P, K).
    """

    pixels: Image
    keypoints_xy: Float
    visibility: Int


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet, (h, w, 3) RGB, and what it shows."""

    caption: str
    pixels: Image


def target_sheet(instances: Sequence[Instance], spec: InputSpec, codec: Codec | SceneCodec,
                 skeleton: Skeleton) -> Image:
    """(H, W, 3) RGB: a row for each view, a column for each target."""
    if isinstance(codec, tuple(SCENE_CODECS.values())):
        views, skeleton = scene_views(instances, spec), OPENPOSE18
    else:
        views = instance_views(instances, spec)
    rows = [_row([_fitted(panel) for panel in panels(view, codec, skeleton)]) for view in views]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, row.shape[0], width) for row in rows])


def as_png(picture: Image) -> bytes:
    """A PNG file of (H, W, 3) RGB pixels."""
    encoded, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert encoded
    return png.tobytes()


def instance_views(instances: Sequence[Instance], spec: InputSpec) -> Iterator[View]:
    """Each instance in the crop that training makes of it, without augmentation."""
    for instance in instances:
        affine = crop_affine(instance.bbox_xywh, spec.input_hw, spec.padding, align=spec.align)
        yield View(crop(read_image(instance.image.path), affine, spec),
                   transform(instance.keypoints_xy, affine)[None], instance.visibility[None])


def scene_views(instances: Sequence[Instance], spec: InputSpec) -> Iterator[View]:
    """Each image whole, with all of its people in OpenPose's order.

    Raises:
        DataError: The people are not of COCO's skeleton, from which OpenPose's is made.
    """
    by_image: dict[str, list[Instance]] = {}
    for instance in instances:
        by_image.setdefault(instance.image.path, []).append(instance)
    for path, people in by_image.items():
        if people[0].keypoints_xy.shape != (len(COCO17), 2):
            raise DataError(f"codec 'openpose' is made from the {len(COCO17)} keypoints of coco17, the labels have "
                            f"{len(people[0].keypoints_xy)}; choose another codec")
        pixels = read_image(path)
        affine = crop_affine(frame_xywh(pixels), spec.input_hw, 1.0, align=spec.align)
        in_input = transform(np.stack([person.keypoints_xy for person in people]), affine)
        yield View(crop(pixels, affine, spec),
                   *openpose_from_coco(in_input, np.stack([person.visibility for person in people])))


def panels(view: View, codec: Codec | SceneCodec, skeleton: Skeleton) -> list[Panel]:
    """The input with its labels, each target over it, and what the targets decode to."""
    learnt = view.visibility > 0
    if isinstance(codec, tuple(SCENE_CODECS.values())):
        target = codec.encode(view.keypoints_xy[None], view.visibility[None])
        decoded_xy, scores = codec.decode(target.arrays)[0]
        found = scores > 0
    else:
        target = codec.encode(view.keypoints_xy, view.visibility)
        decoded_xy, _ = codec.decode(target.arrays)
        found = learnt = target.weight > 0
    shown = [Panel(_label_caption(view, learnt), _draw_labels(view, skeleton, learnt))]
    arrays = target.arrays
    if isinstance(codec, Integral):  # logits; what they weigh is what can be seen
        arrays = {name: np.exp(logits) for name, logits in arrays.items()}
    for name, array in arrays.items():
        shown += PAINTERS[name](view.pixels, array[0], arrays)
    return [*shown, Panel("decoded again", _draw_points(view.pixels, decoded_xy[found], DECODED_RGB))]


def _label_caption(view: View, learnt: Bool) -> str:
    dropped = int(((view.visibility > 0) & ~learnt).sum())
    return f"{int(learnt.sum())} keypoints" + (f", {dropped} out of reach" if dropped else "")


def _draw_labels(view: View, skeleton: Skeleton, learnt: Bool) -> Image:
    """Limbs and keypoints; hidden ones and those that leave nothing on the map in other colours."""
    picture: Image = view.pixels.copy()
    for xy, visibility in zip(view.keypoints_xy, view.visibility, strict=True):
        for a, b in skeleton.limbs:
            if visibility[a] > 0 and visibility[b] > 0:
                cv2.line(picture, _point(xy[a]), _point(xy[b]), (150, 150, 150), 1, cv2.LINE_AA)
    for mask, color in (((view.visibility == 2) & learnt, VISIBLE_RGB), ((view.visibility == 1) & learnt, HIDDEN_RGB),
                        ((view.visibility > 0) & ~learnt, DROPPED_RGB)):
        picture = _draw_points(picture, view.keypoints_xy[mask], color)
    return picture


def _draw_points(pixels: Image, points_xy: Float, color: tuple[int, int, int]) -> Image:
    picture: Image = pixels.copy()
    radius = max(2, max(pixels.shape[:2]) // 96)
    for xy in points_xy:
        cv2.circle(picture, _point(xy), radius, color, -1, cv2.LINE_AA)
    return picture


def _point(xy: Float) -> tuple[int, int]:
    x, y = np.clip(np.rint(xy), -10_000, 10_000).astype(int)
    return int(x), int(y)


def _paint_heatmaps(pixels: Image, maps: Float, arrays: dict[str, Float]) -> list[Panel]:
    """The highest map at each cell; OpenPose's background, the last map, has a panel of its own."""
    has_background = "pafs" in arrays
    keypoints = maps[:-1] if has_background else maps
    shown = [Panel("heatmaps", _overlay(pixels, keypoints.max(0)))]
    return [*shown, Panel("background", _overlay(pixels, maps[-1]))] if has_background else shown


def _paint_offsets(pixels: Image, offsets: Float, arrays: dict[str, Float]) -> list[Panel]:
    """At each cell the offset of the keypoint whose heatmap is highest there."""
    owner = arrays["heatmaps"][0].argmax(0)[None, None]
    by_axis = offsets.reshape(-1, 2, *offsets.shape[1:])
    nearest = np.take_along_axis(by_axis, owner, 0)[0]
    return [Panel(f"offsets {axis}", _signed(pixels, part)) for axis, part in zip("xy", nearest, strict=True)]


def _paint_pafs(pixels: Image, pafs: Float, arrays: dict[str, Float]) -> list[Panel]:
    """At each cell the strongest limb's component; red points right or down, blue left or up."""
    by_axis = pafs.reshape(-1, 2, *pafs.shape[1:])
    strongest = np.take_along_axis(by_axis, np.abs(by_axis).argmax(0)[None], 0)[0]
    return [Panel(f"PAFs {axis}", _signed(pixels, part)) for axis, part in zip("xy", strongest, strict=True)]


def _paint_combined(pixels: Image, maps: Float, arrays: dict[str, Float]) -> list[Panel]:
    """UDP's discs, and on each the offsets of its own keypoint."""
    by_keypoint = maps.reshape(-1, 3, *maps.shape[1:])
    discs, owner = by_keypoint[:, 0], by_keypoint[:, 0].argmax(0)[None]
    nearest = [np.take_along_axis(by_keypoint[:, axis], owner, 0)[0] * discs.max(0) for axis in (1, 2)]
    return [Panel("discs", _overlay(pixels, discs.max(0))),
            *(Panel(f"offsets {axis}", _signed(pixels, part)) for axis, part in zip("xy", nearest, strict=True))]


def _paint_profile(pixels: Image, profiles: Float, axis: int) -> Image:
    """SimCC's bins as bands of light across the input, brightest at their peaks."""
    band = profiles.max(0)
    return _overlay(pixels, band[None, :] if axis == 0 else band[:, None])


def _paint_coordinates(pixels: Image, _: Float, arrays: dict[str, Float]) -> list[Panel]:
    return []  # numbers; what they decode to says it all


PAINTERS: dict[str, Callable[[Image, Float, dict[str, Float]], list[Panel]]] = {
    "heatmaps": _paint_heatmaps, "offsets": _paint_offsets, "pafs": _paint_pafs,
    "simcc_x": lambda pixels, bins, _: [Panel("SimCC x", _paint_profile(pixels, bins, 0))],
    "simcc_y": lambda pixels, bins, _: [Panel("SimCC y", _paint_profile(pixels, bins, 1))],
    "discs_and_offsets": _paint_combined, "coordinates": _paint_coordinates,
}


def _overlay(pixels: Image, level: Float) -> Image:
    """A map over the dimmed input, red where it is highest, each cell as the square of pixels that it stands for."""
    h, w = pixels.shape[:2]
    cells = np.clip(level * (255 / max(float(level.max()), 1e-9)), 0, 255).astype(np.uint8)
    enlarged = cv2.resize(cells, (w, h), interpolation=cv2.INTER_NEAREST)
    colors = cv2.cvtColor(cv2.applyColorMap(enlarged, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(pixels, 0.45, colors, 0.55, 0), dtype=np.uint8)


def _signed(pixels: Image, values: Float) -> Image:
    """Positive values red, negative ones blue, 0 leaves the input grey."""
    h, w = pixels.shape[:2]
    strength = values / max(float(np.abs(values).max()), 1e-9)
    enlarged = cv2.resize(strength.astype(np.float32), (w, h), interpolation=cv2.INTER_NEAREST)[..., None]
    color = np.where(enlarged > 0, (255.0, 40.0, 40.0), (60.0, 90.0, 255.0))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None] * 0.6
    return np.asarray(grey + (color - grey) * np.abs(enlarged), dtype=np.uint8)


def _fitted(panel: Panel) -> Image:
    """A panel in the size of the sheet, under its caption."""
    scale = PANEL_PX / max(panel.pixels.shape[:2])
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(panel.pixels, None, fx=scale, fy=scale, interpolation=kernel)
    title = np.full((CAPTION_PX, picture.shape[1], 3), PAPER, np.uint8)
    cv2.putText(title, panel.caption, (4, CAPTION_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return np.concatenate([title, np.asarray(picture, dtype=np.uint8)])


def _row(pictures: Sequence[Image]) -> Image:
    height = max(picture.shape[0] for picture in pictures)
    return np.concatenate([_padded(picture, height + 4, picture.shape[1] + 4) for picture in pictures], axis=1)


def _padded(picture: Image, height: int, width: int) -> Image:
    """The picture at the top left of a sheet of that size."""
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    sheet[:picture.shape[0], :picture.shape[1]] = picture
    return sheet
