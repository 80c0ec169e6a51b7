"""Heatmap targets: ``Heatmap.encode`` against the loop over joints of the HRNet tutorials, and against plain numpy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.timing import compare
from edgekp.codecs import Heatmap
from edgekp.sample import Float, Int

KEYPOINTS, PERSONS = 17, 32
CODECS = (Heatmap((256, 192), sigma=2.0), Heatmap((384, 288), sigma=3.0))  # HRNet's two sizes, each with its sigma


def records() -> list[dict[str, Any]]:
    return [record for codec in CODECS for persons in (1, PERSONS) for record in _records(codec, persons)]


def _records(codec: Heatmap, persons: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    keypoints_xy = rng.uniform((0, 0), codec.input_hw[::-1], (persons, KEYPOINTS, 2))
    visibility = np.full((persons, KEYPOINTS), 2)
    h, w = codec.grid.map_hw
    name = f"targets {KEYPOINTS} x {h} x {w}, " + ("1 person" if persons == 1 else f"a person of {persons}")
    arguments = codec, keypoints_xy, visibility
    ours = partial(codec.encode, keypoints_xy, visibility)
    return [compare(name, ours, "a patch per joint, as HRNet", partial(joint_by_joint, *arguments), units=persons),
            compare(name, ours, "numpy, all maps at once", partial(all_at_once, *arguments), units=persons)]


def joint_by_joint(codec: Heatmap, keypoints_xy: Float, visibility: Int) -> list[tuple[Float, Float]]:
    """Simple Baselines' and HRNet's way: for each person and joint, a square patch is computed, clipped and copied."""
    input_wh, map_wh = np.array(codec.input_hw[::-1]), np.array(codec.grid.map_hw[::-1])
    return [_person(points, seen, input_wh, map_wh, codec.sigma)
            for points, seen in zip(keypoints_xy, visibility > 0, strict=True)]


def _person(points: Float, seen: Int, input_wh: Int, map_wh: Int, sigma: float) -> tuple[Float, Float]:
    w, h = map_wh
    maps, weight = np.zeros((len(points), h, w), np.float32), np.ones((len(points), 1), np.float32)
    weight[:, 0] = seen
    radius = sigma * 3
    for joint in range(len(points)):
        stride = input_wh / map_wh
        column, row = int(points[joint][0] / stride[0] + 0.5), int(points[joint][1] / stride[1] + 0.5)
        left, top = int(column - radius), int(row - radius)
        right, bottom = int(column + radius + 1), int(row + radius + 1)
        if left >= w or top >= h or right < 0 or bottom < 0:
            weight[joint] = 0
            continue
        x = np.arange(2 * radius + 1, dtype=np.float32)
        y = x[:, np.newaxis]
        middle = (2 * radius + 1) // 2
        patch = np.exp(-((x - middle) ** 2 + (y - middle) ** 2) / (2 * sigma**2))
        if weight[joint] > 0.5:
            y0, y1, x0, x1 = max(0, top), min(bottom, h), max(0, left), min(right, w)
            maps[joint][y0:y1, x0:x1] = patch[y0 - top:y1 - top, x0 - left:x1 - left]
    return maps, weight


def all_at_once(codec: Heatmap, keypoints_xy: Float, visibility: Int) -> tuple[Float, Float]:
    """A Gaussian is the product of two profiles, so that numpy needs no loop: one broadcast over all maps."""
    h, w = codec.grid.map_hw
    cells = codec.grid.to_cells(keypoints_xy).astype(np.float32)
    weight = (visibility > 0).astype(np.float32)
    across = np.exp((np.arange(w, dtype=np.float32) - cells[..., :1]) ** 2 * np.float32(-0.5 / codec.sigma**2))
    down = np.exp((np.arange(h, dtype=np.float32) - cells[..., 1:]) ** 2 * np.float32(-0.5 / codec.sigma**2))
    return (down * weight[..., None])[..., :, None] * across[..., None, :], weight
