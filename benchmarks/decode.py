"""DARK: ``Heatmap.decode`` against a loop over keypoints that blurs, takes logarithms and expands each whole map."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np

from benchmarks.timing import compare
from edgekp.codecs import Heatmap
from edgekp.sample import Float

KEYPOINTS, PERSONS = 17, 32
BLUR_CELLS = 11
CODECS = (Heatmap((256, 192)), Heatmap((384, 288)))


def records() -> list[dict[str, Any]]:
    cv2.setNumThreads(1)
    return [_record(codec, persons) for codec in CODECS for persons in (1, PERSONS)]


def _record(codec: Heatmap, persons: int) -> dict[str, Any]:
    """Maps as a network makes them: Gaussians anywhere in the input, under a little noise."""
    rng = np.random.default_rng(0)
    keypoints_xy = rng.uniform((0, 0), codec.input_hw[::-1], (persons, KEYPOINTS, 2))
    maps = codec.encode(keypoints_xy, np.full((persons, KEYPOINTS), 2)).arrays["heatmaps"]
    maps = maps + rng.normal(0, 0.01, maps.shape).astype(np.float32)
    h, w = codec.grid.map_hw
    name = f"DARK {KEYPOINTS} x {h} x {w}, " + ("1 person" if persons == 1 else f"a person of {persons}")
    return compare(name, partial(codec.decode, {"heatmaps": maps}), "a Taylor expansion per keypoint, cv2",
                   partial(keypoint_by_keypoint, maps), units=persons)


def keypoint_by_keypoint(maps: Float) -> list[tuple[Float, Float]]:
    """DARK as its code has it, person by person: (K, 2) cells and (K,) scores of each."""
    return [_person(person) for person in maps]


def _person(maps: Float) -> tuple[Float, Float]:
    k, _, w = maps.shape
    flat = maps.reshape(k, -1)
    best = flat.argmax(1)
    cells = np.stack([best % w, best // w], -1).astype(np.float32)
    for keypoint in range(k):
        smooth = _smoothed(maps[keypoint])
        cells[keypoint] += _taylor(np.log(np.maximum(smooth, 1e-10)), *map(int, cells[keypoint]))
    return cells, flat.max(1)


def _smoothed(heatmap: Float) -> Float:
    """Blurred with zeros around, and as high as before."""
    h, w = heatmap.shape
    border = BLUR_CELLS // 2
    padded = np.zeros((h + 2 * border, w + 2 * border), np.float32)
    padded[border:-border, border:-border] = heatmap
    smooth = cv2.GaussianBlur(padded, (BLUR_CELLS, BLUR_CELLS), 0)[border:-border, border:-border]
    return np.asarray(smooth * (heatmap.max() / smooth.max()))


def _taylor(logs: Float, x: int, y: int) -> Float:
    """(2,) from the cell to the top of the parabola that the log of a Gaussian is."""
    h, w = logs.shape
    if not (1 < x < w - 2 and 1 < y < h - 2):
        return np.zeros(2)
    gradient = 0.5 * np.array([logs[y, x + 1] - logs[y, x - 1], logs[y + 1, x] - logs[y - 1, x]])
    xx = 0.25 * (logs[y, x + 2] - 2 * logs[y, x] + logs[y, x - 2])
    yy = 0.25 * (logs[y + 2, x] - 2 * logs[y, x] + logs[y - 2, x])
    xy = 0.25 * (logs[y + 1, x + 1] - logs[y - 1, x + 1] - logs[y + 1, x - 1] + logs[y - 1, x - 1])
    if xx * yy - xy * xy == 0:
        return np.zeros(2)
    return np.asarray(-np.linalg.inv(np.array([[xx, xy], [xy, yy]])) @ gradient)
