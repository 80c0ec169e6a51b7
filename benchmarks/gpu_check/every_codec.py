"""What the kernels are checked with: a codec of every kind, and outputs as a network might say them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gpu_check.drawn import gaussian_bins, gaussian_logits, limb_fields
from edgekp.codecs import Codec, Heatmap, HeatmapOffset, Integral, OpenPose, Regression, SimCC
from edgekp.codecs.integral import LOWEST_LOGIT
from edgekp.codecs.openpose import LIMBS
from edgekp.contract import SceneContract
from edgekp.preprocess import InputSpec, transform
from edgekp.sample import Float
from edgekp.skeletons import COCO17

INPUT_HW = (256, 192)
KEYPOINTS = 17
PEOPLE_OF_SCENES = (0, 2, 3)
CODECS: dict[str, Codec] = {
    **{f"heatmap {refine}": Heatmap(INPUT_HW, refine=refine) for refine in ("none", "quarter", "quadratic", "dark")},
    "offset": HeatmapOffset(INPUT_HW), "integral": Integral(INPUT_HW), "simcc": SimCC(INPUT_HW),
    "regression": Regression(INPUT_HW)}
NUMBERS: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "i8": np.int8}
# OpenPose's 18 keypoints of somebody who stands, as fractions of their height; the middle is at 0.5.
FIGURE = np.array([[.5, .1], [.5, .22], [.4, .22], [.36, .36], [.34, .5], [.6, .22], [.64, .36], [.66, .5], [.44, .5],
                   [.43, .7], [.42, .9], [.56, .5], [.57, .7], [.58, .9], [.47, .07], [.53, .07], [.43, .1], [.57, .1]])


@dataclass(frozen=True)
class Said:
    """Outputs of a network as they are stored, and the keypoints (N, K, 3) that numpy reads from them."""

    stored: dict[str, Any]
    scale: float
    keypoints: Float


def said(codec: Codec, number: str, crop_to_image: Float, seed: int = 0) -> Said:
    """Outputs for the keypoints of N people, inside and outside of the input, with noise."""
    rng = np.random.default_rng(seed)
    n, (h, w) = len(crop_to_image), codec.input_hw
    keypoints_xy = rng.uniform((-0.1 * w, -0.1 * h), (1.1 * w, 1.1 * h), (n, KEYPOINTS, 2))
    arrays = {name: array + rng.normal(0, 0.003, array.shape)
              for name, array in zip(codec.outputs, _outputs(codec, keypoints_xy, rng), strict=True)}
    scale = float(max(np.abs(array).max() for array in arrays.values())) / 127 if number == "i8" else 1.0
    stored = {name: _stored(array, number, scale) for name, array in arrays.items()}
    meant = {name: array.astype(np.float32) * np.float32(scale) for name, array in stored.items()}
    found_xy, scores = codec.decode(meant)
    return Said(stored, scale, np.concatenate([transform(found_xy, crop_to_image), scores[..., None]], -1))


def _outputs(codec: Codec, keypoints_xy: Float, rng: np.random.Generator) -> list[Float]:
    """In the codec's order."""
    n, k, _ = keypoints_xy.shape
    if isinstance(codec, Heatmap):
        return [np.exp(gaussian_logits(keypoints_xy, codec.grid, codec.sigma))]
    if isinstance(codec, HeatmapOffset):
        grid = codec.heatmap.grid
        return [np.exp(gaussian_logits(keypoints_xy, grid, codec.sigma)),
                rng.uniform(-0.5, 0.5, (n, 2 * k, *grid.map_hw))]
    if isinstance(codec, Integral):
        return [np.maximum(gaussian_logits(keypoints_xy, codec.grid, codec.sigma), LOWEST_LOGIT)]
    if isinstance(codec, SimCC):
        return [gaussian_bins(keypoints_xy[..., axis] * codec.split, bins, sigma)
                for axis, (bins, sigma) in enumerate(zip(codec.bins_xy, codec.sigma_xy, strict=True))]
    assert isinstance(codec, Regression)
    return [keypoints_xy / codec.input_hw[::-1] - 0.5]


def crops(n: int, seed: int = 1) -> Float:
    """(n, 2, 3) from input pixels to image pixels: people of about 300 pixels, turned a little."""
    rng = np.random.default_rng(seed)
    turn = rng.normal(0, 0.1, (n, 2, 2)) + np.eye(2) * rng.uniform(1, 3, (n, 1, 1))
    return np.concatenate([turn, rng.uniform(-50, 400, (n, 2, 1))], -1)


def _stored(values: Any, number: str, scale: float) -> Any:
    if number == "i8":
        return np.ascontiguousarray((values / scale).round(), np.int8)
    return np.ascontiguousarray(values, NUMBERS[number])


def scenes() -> tuple[SceneContract, dict[str, Float]]:
    """A contract of whole scenes, and outputs for as many people as ``PEOPLE_OF_SCENES`` says."""
    codec = OpenPose((160, 192))
    rng = np.random.default_rng(3)
    heatmaps, pafs = [], []
    for people in PEOPLE_OF_SCENES:
        middles = np.stack([np.linspace(40, 152, people), np.full(people, 80.0)], -1)
        people_xy = middles[:, None] + 110 * (FIGURE - 0.5) + rng.normal(0, 2, (people, *FIGURE.shape))
        maps = np.exp(gaussian_logits(people_xy, codec.grid, codec.sigma / codec.stride)).max(0, initial=0)
        heatmaps.append(np.concatenate([maps, 1 - maps.max(0, keepdims=True)]))
        pafs.append(limb_fields(people_xy, LIMBS, codec.grid, codec.thickness))
    outputs = {name: np.asarray(np.stack(arrays) + rng.normal(0, 0.02, np.shape(arrays)), np.float32)
               for name, arrays in zip(codec.outputs, (heatmaps, pafs), strict=True)}
    return SceneContract(InputSpec(codec.input_hw, padding=1.0), codec, COCO17), outputs
