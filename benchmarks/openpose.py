"""OpenPose's maps, 19 + 38 at 46 x 46 cells, of one and of three people: our encoder, per-pixel loops, and numpy."""

from __future__ import annotations

from functools import partial
from math import exp
from typing import Any

import numpy as np

from benchmarks.timing import compare
from edgekp.codecs.openpose import LIMBS, OpenPose
from edgekp.sample import Float

CODEC = OpenPose((368, 368))
H, W = CODEC.grid.map_hw
SIGMA = CODEC.sigma / CODEC.stride  # cells
REACH = 4 * SIGMA  # cells that the loops look at on each side of a keypoint
CLOSE = 1e-3  # the loops leave out what is below exp(-8)
FIGURE = np.array([  # x and y of OpenPose's keypoints, for a person of height 1
    (0, 0), (0, .13), (-.1, .13), (-.14, .3), (-.15, .45), (.1, .13), (.14, .3), (.15, .45), (-.06, .5), (-.07, .75),
    (-.07, .97), (.06, .5), (.07, .75), (.07, .97), (-.02, -.02), (.02, -.02), (-.05, 0), (.05, 0)])

Maps = tuple[Float, Float]


def records() -> list[dict[str, Any]]:
    found = []
    for people, title in ((1, "OpenPose maps of 1 person"), (3, "OpenPose maps of 3 people")):
        scene = _scene(people)
        for name, alternative in {"loops over the cells nearby": loops, "numpy": vectorised}.items():
            _require_equal(_ours(scene), alternative(scene))
            found.append(compare(title, partial(_ours, scene), name, partial(alternative, scene)))
    return found


def _scene(people: int) -> Float:
    """(P, 18, 2) input pixels: figures 150 to 300 pixels tall, which may overlap."""
    rng = np.random.default_rng(people)
    height = rng.uniform(150, 300, (people, 1, 1))
    return np.asarray(height * FIGURE + rng.uniform((60, 20), (308, 60), (people, 1, 2)))


def _ours(scene: Float) -> Maps:
    arrays = CODEC.encode(scene[None], np.full((1, *scene.shape[:2]), 2)).arrays
    return arrays["heatmaps"][0], arrays["pafs"][0]


def _require_equal(ours: Maps, theirs: Maps) -> None:
    assert all(np.allclose(one, other, rtol=0, atol=CLOSE) for one, other in zip(ours, theirs, strict=True))


def loops(scene: Float) -> Maps:
    """Cell by cell in Python, as tutorials do, but only near keypoints and limbs."""
    heatmaps, pafs = np.zeros((19, H, W), np.float32), np.zeros((38, H, W), np.float32)
    cells_xy = CODEC.grid.to_cells(scene).tolist()
    for keypoint in range(18):
        for person in cells_xy:
            _loop_over_keypoint(heatmaps[keypoint], *person[keypoint])
    heatmaps[18] = 1 - heatmaps[:18].max(0)
    for limb, (start, end) in enumerate(LIMBS.tolist()):
        count = np.zeros((H, W))
        for person in cells_xy:
            _loop_over_limb(pafs[2 * limb:2 * limb + 2], count, *person[start], *person[end])
        pafs[2 * limb:2 * limb + 2] /= np.maximum(count, 1)
    return heatmaps, pafs


def _loop_over_keypoint(heatmap: Float, x: float, y: float) -> None:
    for row in range(max(int(y - REACH), 0), min(int(y + REACH) + 2, H)):
        for column in range(max(int(x - REACH), 0), min(int(x + REACH) + 2, W)):
            value = exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * SIGMA**2))
            heatmap[row, column] = max(heatmap[row, column], value)


def _loop_over_limb(paf: Float, count: Float, x: float, y: float, end_x: float, end_y: float) -> None:
    length = ((end_x - x) ** 2 + (end_y - y) ** 2) ** 0.5
    unit_x, unit_y = (end_x - x) / length, (end_y - y) / length
    reach = CODEC.thickness
    for row in range(max(int(min(y, end_y) - reach), 0), min(int(max(y, end_y) + reach) + 2, H)):
        for column in range(max(int(min(x, end_x) - reach), 0), min(int(max(x, end_x) + reach) + 2, W)):
            in_box = (min(x, end_x) - reach <= column <= max(x, end_x) + reach
                      and min(y, end_y) - reach <= row <= max(y, end_y) + reach)
            if in_box and abs((column - x) * unit_y - (row - y) * unit_x) <= reach:
                count[row, column] += 1
                paf[0, row, column] += unit_x
                paf[1, row, column] += unit_y


def vectorised(scene: Float) -> Maps:
    """All people, keypoints and limbs at once, in float32, with all that separates into x and y kept apart."""
    cells_xy = CODEC.grid.to_cells(scene).astype(np.float32)
    rows, columns = np.arange(H, dtype=np.float32), np.arange(W, dtype=np.float32)
    heatmaps, pafs = np.empty((19, H, W), np.float32), np.empty((38, H, W), np.float32)
    across, down = (np.exp((cells - centers) ** 2 * np.float32(-0.5 / SIGMA**2))
                    for cells, centers in ((columns, cells_xy[..., :1]), (rows, cells_xy[..., 1:])))
    np.max(down[..., :, None] * across[..., None, :], axis=0, out=heatmaps[:18])
    np.subtract(1, heatmaps[:18].max(0), out=heatmaps[18])
    start, end = cells_xy[:, LIMBS[:, 0]], cells_xy[:, LIMBS[:, 1]]
    unit = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    x, y = columns - start[..., :1], rows - start[..., 1:]
    distance = (x * unit[..., 1:])[..., None, :] - (y * unit[..., :1])[..., :, None]
    low, high = np.minimum(start, end) - CODEC.thickness, np.maximum(start, end) + CODEC.thickness
    in_x = (columns >= low[..., :1]) & (columns <= high[..., :1])
    in_y = (rows >= low[..., 1:]) & (rows <= high[..., 1:])
    covered = (np.abs(distance) <= CODEC.thickness) & in_x[..., None, :] & in_y[..., :, None]
    share = covered / np.maximum(covered.sum(0), 1, dtype=np.float32)
    np.einsum("plhw,plc->lchw", share, unit, out=pafs.reshape(19, 2, H, W))
    return heatmaps, pafs
