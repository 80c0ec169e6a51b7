"""DARK as one would write it with arrays: the same sums for torch, cupy and numpy. Knows no kernel of ours.

It looks only at the cells around each peak, as our kernel does; a whole map is never blurred.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekp.sample import Float

LOWEST = 1e-10
LONGEST_STEP = 2.0


def blur_of(taps: Float) -> Float:
    """(5, len + 4): what five neighbouring cells are after a blur by ``taps``, of the cells around them."""
    blur = np.zeros((5, len(taps) + 4), np.float32)
    for row in range(5):
        blur[row, row:row + len(taps)] = taps
    return blur


def dark(xp: Any, maps: Any, cell_to_image: Any, blur: Any) -> Any:
    """Keypoints (N, K, 3) as x, y in image pixels and score.

    Args:
        xp: the module of the arrays: torch, cupy or numpy.
        maps: (N, K, H, W).
        cell_to_image: (N, 2, 3).
        blur: of ``blur_of``.
    """
    n, k, h, w = maps.shape
    flat = maps.reshape(n * k, h * w)
    at = flat.argmax(1)
    rows = _count(xp, n * k, maps)
    x, y = at % w, at // w
    step_x, step_y = _newton(xp, xp.log(xp.clip(_blurred(xp, flat, rows, x, y, (h, w), blur), LOWEST, None)))
    refined = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2)
    near = refined & (abs(step_x) <= LONGEST_STEP) & (abs(step_y) <= LONGEST_STEP)
    cells = xp.stack([x + xp.where(near, step_x, 0.0), y + xp.where(near, step_y, 0.0)], -1).reshape(n, k, 2)
    affine = cell_to_image[:, None]
    places = (affine[..., :2] * cells[:, :, None]).sum(-1) + affine[..., 2]
    return xp.concatenate([places, flat[rows, at].reshape(n, k, 1)], -1)


def _count(xp: Any, count: int, beside: Any) -> Any:
    """0, 1, ... where ``beside`` is."""
    return xp.arange(count, device=beside.device) if xp.__name__ == "torch" else xp.arange(count)


def _blurred(xp: Any, flat: Any, rows: Any, x: Any, y: Any, map_hw: tuple[int, int], blur: Any) -> Any:
    """(N K, 5, 5) around the peaks, 0 beyond the map."""
    h, w = map_hw
    wide = blur.shape[1]
    around = _count(xp, wide, flat) - wide // 2
    columns, lines = x[:, None, None] + around[None, None, :], y[:, None, None] + around[None, :, None]
    inside = (columns >= 0) & (columns < w) & (lines >= 0) & (lines < h)
    cells = xp.clip(lines, 0, h - 1) * w + xp.clip(columns, 0, w - 1)
    window = xp.where(inside, flat[rows[:, None, None], cells], 0.0)
    return blur @ window @ blur.T


def _newton(xp: Any, logs: Any) -> tuple[Any, Any]:
    """One step to the top of the parabola through 5 x 5 logs."""
    here = logs[:, 2, 2]
    x, y = 0.5 * (logs[:, 2, 3] - logs[:, 2, 1]), 0.5 * (logs[:, 3, 2] - logs[:, 1, 2])
    xx = 0.25 * (logs[:, 2, 4] - 2 * here + logs[:, 2, 0])
    yy = 0.25 * (logs[:, 4, 2] - 2 * here + logs[:, 0, 2])
    xy = 0.25 * (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1])
    determinant = xx * yy - xy * xy
    safe = xp.where(determinant == 0, 1.0, determinant)
    flat = determinant == 0
    return (xp.where(flat, 0.0, (xy * y - yy * x) / safe), xp.where(flat, 0.0, (xy * x - xx * y) / safe))
