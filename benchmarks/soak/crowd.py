"""How many people there are at a moment, and where: nobody to fifty, in turns. Knows no camera and no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import cv2
import numpy as np

from edgekp.sample import Float, Image

TURNS = (0, 1, 4, 50, 12, 2)  # people; each for ``hold_s``
COLUMNS, ROWS = 10, 5
DARK, BRIGHT = 20, 230  # grey levels of the ground and of somebody


@dataclass(frozen=True)
class Crowd:
    """People in the cells of a grid, who sway a little."""

    hold_s: float = 5.0
    turns: Sequence[int] = TURNS
    clock: Callable[[], float] = field(default=perf_counter, repr=False)

    def detect(self, bgr: Image) -> Float:
        """(N, 4) boxes xywh of everybody, as a detector would give them."""
        now_s, (height, width) = self.clock(), bgr.shape[:2]
        numbers = np.arange(self.turns[int(now_s / self.hold_s) % len(self.turns)])
        cell = np.array([width / COLUMNS, height / ROWS])
        corner = np.column_stack([numbers % COLUMNS, numbers // COLUMNS % ROWS]) * cell
        sway = 0.05 * cell * np.column_stack([np.sin(now_s + numbers), np.cos(now_s + numbers)])
        return np.concatenate([corner + 0.1 * cell + sway, np.broadcast_to(0.8 * cell, (len(numbers), 2))], axis=1)

    def picture(self, size_wh: tuple[int, int]) -> Image:
        """(H, W, 3) BGR with everybody as a bright box before a dark ground."""
        bgr = np.full((size_wh[1], size_wh[0], 3), DARK, np.uint8)
        for x, y, width, height in self.detect(bgr).astype(int).tolist():
            cv2.rectangle(bgr, (x, y), (x + width, y + height), (BRIGHT,) * 3, -1)
        return bgr
