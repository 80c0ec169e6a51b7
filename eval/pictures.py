"""Pictures of predicted and true keypoints, a spread from the best to the worst. Knows no HTML and no file layout."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgekp.preprocess import InputSpec, crop, crop_affine, read_image, transform
from edgekp.sample import Bool, Float, Image, Instance
from edgekp.skeletons import Skeleton
from eval.metrics.nme import outer_corner_px
from eval.metrics.oks_ap import instance_oks
from eval.results import Scored

SIDE_PX = 384
VIEW = InputSpec((SIDE_PX, SIDE_PX), padding=1.4, pad_value=96)
JPEG_QUALITY = 80
MANY_KEYPOINTS = 30  # more, and lines must be thin to leave something of the face
DIMMED = 0.7  # brightness of the photograph, so that bright lines stand out on any of them
SUBPIXEL_BITS = 4
FAR = 1e6  # stands for the error of a missing prediction

# Apart for colour-blind eyes too (Okabe and Ito, 2008).
TRUTH, BASELINE, FINAL = (255, 255, 255), (86, 180, 233), (255, 140, 0)


@dataclass(frozen=True)
class Picture:
    """A JPEG of one instance and what it shows."""

    uri: str
    file: str
    errors: dict[str, str]


@dataclass(frozen=True)
class Regression:
    """One instance twice, each time with the truth and with what one model says."""

    first: Picture
    last: Picture


@dataclass(frozen=True)
class InstanceError:
    """How wrong each of N instances is, and how a caption says it."""

    of: Callable[[Scored], Float]
    spell: Callable[[float], str]


def _mean_error_px(scored: Scored) -> Float:
    """(N,) over the labelled keypoints; infinite without a prediction."""
    labelled = scored.truth.labelled
    return np.asarray(np.where(labelled, scored.error_px, 0.0).sum(1) / labelled.sum(1))


ERRORS = {
    "nme": InstanceError(lambda scored: _mean_error_px(scored) / outer_corner_px(scored.truth),
                         lambda error: f"nme {100 * error:.1f} %"),
    "pck": InstanceError(lambda scored: _mean_error_px(scored) / scored.truth.bbox_xywh[:, 2:].max(1),
                         lambda error: f"error {100 * error:.1f} % of the box"),
    "oks_ap": InstanceError(lambda scored: 1 - instance_oks(scored), lambda error: f"OKS {1 - error:.2f}"),
}


def make_pictures(scored: dict[str, Scored], metric: str, count: int) -> list[Picture]:
    """Up to ``count`` instances from the best to the worst of the last model, with what the first one says as well.

    Args:
        scored: results for one truth, by model; one or two.
    """
    error_of, final = ERRORS[metric], list(scored)[-1]
    errors = {model: error_of.of(results) for model, results in scored.items()}
    return [_picture(scored, {model: error_of.spell(float(values[index])) for model, values in errors.items()}, index)
            for index in spread(errors[final], count)]


def make_regressions(scored: dict[str, Scored], metric: str, count: int) -> list[Regression]:
    """Up to ``count`` instances on which the last model is worse than the first, the worst of them in front."""
    error_of, (first, last) = ERRORS[metric], scored
    before, after = (np.nan_to_num(error_of.of(scored[model]), posinf=FAR) for model in (first, last))
    worst = [int(index) for index in np.argsort(before - after, kind="stable")[:count] if after[index] > before[index]]
    return [Regression(*(_picture({model: scored[model]}, {model: error_of.spell(float(errors[index]))}, index, color)
                         for model, errors, color in ((first, before, BASELINE), (last, after, FINAL))))
            for index in worst]


def spread(errors: Float, count: int) -> list[int]:
    """Positions of up to ``count`` of (N,) errors, evenly by rank, best and worst among them; NaN is left out."""
    order = np.argsort(errors, kind="stable")[:np.count_nonzero(~np.isnan(errors))]
    ranks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return [int(index) for index in order[ranks]]


def _picture(scored: dict[str, Scored], errors: dict[str, str], index: int, *own: tuple[int, int, int]) -> Picture:
    """One instance with the truth and each model's keypoints, in these colours if they are given."""
    truth = next(iter(scored.values())).truth
    instance = truth.labels.instances[index]
    colors = own or (BASELINE, FINAL)[-len(scored):]
    layers = [(instance.keypoints_xy, TRUTH)]
    layers += [(results.predicted_xy[index], color) for results, color in zip(scored.values(), colors, strict=True)]
    said = {model: text if scored[model].found[index] else "no prediction" for model, text in errors.items()}
    jpeg = encode_jpeg(draw(read_image(instance.image.path), instance, truth.skeleton, layers))
    return Picture(f"data:image/jpeg;base64,{b64encode(jpeg).decode()}", Path(instance.image.path).name, said)


def draw(image: Image, instance: Instance, skeleton: Skeleton,
         layers: Sequence[tuple[Float, tuple[int, int, int]]]) -> Image:
    """The surroundings of an instance's box with skeletons upon it: (K, 2) image pixels and RGB each, last on top."""
    image_to_view = crop_affine(instance.bbox_xywh, VIEW.input_hw, VIEW.padding)
    canvas = (crop(image, image_to_view, VIEW) * DIMMED).astype(np.uint8)
    for keypoints_xy, color in layers:
        shown = instance.labelled & np.isfinite(keypoints_xy).all(-1)
        _draw_skeleton(canvas, transform(np.where(shown[:, None], keypoints_xy, 0.0), image_to_view), shown, skeleton,
                       color)
    return canvas


def _draw_skeleton(canvas: Image, view_xy: Float, shown: Bool, skeleton: Skeleton, color: tuple[int, int, int]) -> None:
    """Limbs between keypoints that are shown, then the keypoints: dots are lines without length."""
    limbs = np.array(skeleton.limbs, dtype=np.int64).reshape(-1, 2)
    near = np.clip(view_xy, -4 * SIDE_PX, 5 * SIDE_PX)  # OpenCV's coordinates are 32 bits
    fixed_point = (near * (1 << SUBPIXEL_BITS)).round().astype(np.int32)
    lines = fixed_point[limbs[shown[limbs].all(1)]]
    dots = np.repeat(fixed_point[shown][:, None], 2, axis=1)
    width = 1 if len(skeleton) > MANY_KEYPOINTS else 2
    for segments, thickness in ((lines, width), (dots, 3 * width)):
        cv2.polylines(canvas, list(segments), False, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def encode_jpeg(image: Image) -> bytes:
    """An RGB image as the bytes of a JPEG file."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()
