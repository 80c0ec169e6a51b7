"""What surrounds a subject: backgrounds with distractors, things in the way, and what a camera does to a picture.

Knows neither people nor faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgekp.sample import Float, Image, Int
from train.drawn.canvas import PATTERNS, Canvas, Cloth, blob, box, ellipse, limb

THING = 65535  # owner number of everything that is not a subject
SKIN_TONES = np.array([[247, 214, 188], [232, 188, 152], [210, 160, 120], [172, 118, 80], [126, 82, 54],
                       [84, 54, 38]], dtype=float)
HAIR_TONES = np.array([[28, 22, 20], [58, 38, 26], [98, 64, 38], [156, 110, 60], [212, 178, 112], [150, 148, 146],
                       [130, 56, 30]], dtype=float)


@dataclass(frozen=True)
class Labelled:
    """One subject as it came out: the ground truth of an annotation.

    Attributes:
        keypoints_xy: (K, 2) pixels; 0, 0 where the visibility is 0.
        bbox_xywh, area_px2: of the subject's own pixels, or of its keypoints.
    """

    keypoints_xy: Float
    visibility: Int
    bbox_xywh: Float
    area_px2: float


@dataclass(frozen=True)
class Drawing:
    """A finished picture, the truth about it, and the owner of every pixel for whoever wants to check."""

    image: Image
    subjects: tuple[Labelled, ...]
    owner: Int


def random_color(rng: np.random.Generator) -> Float:
    """(3,) RGB; every fourth one is nearly grey, as clothes and walls are."""
    saturation = rng.uniform(0.0, 0.15) if rng.random() < 0.25 else rng.uniform(0.15, 0.85)
    value = rng.uniform(0.15, 0.98)
    hue = rng.uniform(0, 6)
    wheel = np.clip(np.abs(hue - np.array([3.0, 2.0, 4.0])) * (1, -1, -1) + (-1, 2, 2), 0, 1)
    return np.asarray(255 * value * (1 - saturation + saturation * wheel))


def skin_color(rng: np.random.Generator) -> Float:
    """(3,) RGB between two neighbouring tones."""
    place, share = int(rng.integers(len(SKIN_TONES) - 1)), rng.random()
    return np.asarray(SKIN_TONES[place] * share + SKIN_TONES[place + 1] * (1 - share))


def hair_color(rng: np.random.Generator) -> Float:
    """(3,) RGB."""
    return np.asarray(np.clip(rng.choice(HAIR_TONES) + rng.normal(0, 8, 3), 8, 245))


def random_cloth(rng: np.random.Generator, unit_px: float, plain_p: float = 0.4) -> Cloth:
    """A material whose pattern repeats every half to one and a half units."""
    pattern = "plain" if rng.random() < plain_p else PATTERNS[int(rng.integers(1, len(PATTERNS)))]
    period_px = max(3.0, unit_px * rng.uniform(0.3, 1.2))
    return Cloth(random_color(rng), random_color(rng), pattern, period_px, float(rng.uniform(0, 6.28)))


def random_light(rng: np.random.Generator) -> Float:
    """(3,) unit vector towards the lamp, mostly from above and from the viewer's side."""
    light = np.array([rng.normal(0, 0.6), rng.normal(-0.5, 0.35), rng.uniform(0.5, 1.2)])
    return np.asarray(light / np.linalg.norm(light))


def empty_scene(rng: np.random.Generator, size_wh: tuple[int, int]) -> Canvas:
    """A lit canvas with a background: wall and floor or plain gradient, rough surfaces, and clutter on them."""
    w, h = size_wh
    top, bottom = random_color(rng), random_color(rng)
    ramp = np.linspace(0, 1, h)[:, None, None]
    pixels = np.broadcast_to(top + (bottom - top) * ramp * rng.uniform(0.1, 0.7), (h, w, 3)).astype(np.float32)
    if rng.random() < 0.6:
        horizon = int(h * rng.uniform(0.35, 0.8))
        pixels[horizon:] = random_color(rng) * np.linspace(rng.uniform(0.6, 1.0), 1.0, h - horizon)[:, None, None]
    pixels += _cloud(rng, size_wh)[..., None] * rng.uniform(4, 28)
    pixels += _cloud(rng, size_wh, finest=96)[..., None] * rng.uniform(0, 14)
    canvas = Canvas(pixels, random_light(rng), rng.uniform(0.35, 0.65))
    for _ in range(int(rng.integers(3, 13))):
        _clutter(rng, canvas)
    canvas.owner[:] = 0
    return canvas


def _cloud(rng: np.random.Generator, size_wh: tuple[int, int], finest: int = 24) -> Float:
    """(h, w) smooth noise of standard deviation about 1."""
    total = np.zeros(size_wh[::-1], dtype=np.float32)
    for cells in (4, finest // 2, finest):
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        total += cv2.resize(coarse, size_wh, interpolation=cv2.INTER_LINEAR) * np.float32(0.6)
    return total


def _clutter(rng: np.random.Generator, canvas: Canvas) -> None:
    """One thing in the background; some have the shape and colour of a limb or a head."""
    h, w = canvas.size_hw
    at = rng.uniform((0, 0), (w, h))
    kind = rng.random()
    if kind < 0.35:
        size = rng.uniform(8, 90, 2)
        canvas.paint(blob(box(*at, *size)), random_cloth(rng, 20), THING)
    elif kind < 0.6:
        canvas.paint(blob(ellipse(at, (rng.uniform(3, 35), rng.uniform(3, 35)))), random_cloth(rng, 15), THING)
    elif kind < 0.9:
        color = skin_color(rng) if rng.random() < 0.25 else random_color(rng)
        reach = rng.normal(0, 45, 2)
        thick = rng.uniform(1.5, 9)
        canvas.paint(limb(at, at + reach, thick, thick * rng.uniform(0.6, 1.0)), Cloth(color, color), THING)
    else:
        radius = rng.uniform(4, 18)
        color = skin_color(rng)
        canvas.paint(blob(ellipse(at, (radius * 0.8, radius))), Cloth(color, color), THING)


def put_in_the_way(rng: np.random.Generator, canvas: Canvas, near: Float, unit_px: float) -> None:
    """Cover part of a subject: a post, a box, a table, or a bush.

    Args:
        near: (2,) a point of the subject, pixels.
        unit_px: the subject's measure: the height of a person's head.
    """
    height = canvas.size_hw[0]
    cloth = random_cloth(rng, unit_px)
    kind = rng.random()
    if kind < 0.3:
        width = unit_px * rng.uniform(0.25, 0.7)
        canvas.paint(blob(box(near[0] - width / 2, -2, width, height + 4)), cloth, THING)
    elif kind < 0.65:
        size = unit_px * rng.uniform(0.6, 2.2, 2)
        canvas.paint(blob(box(*(near - size * rng.uniform(0.2, 0.8, 2)), *size)), cloth, THING)
    elif kind < 0.85:
        _table(rng, canvas, near, unit_px, cloth)
    else:
        for center in near + rng.normal(0, 0.55 * unit_px, (6, 2)):
            radii = unit_px * rng.uniform(0.2, 0.5), unit_px * rng.uniform(0.2, 0.5)
            canvas.paint(blob(ellipse(center, radii, rng.uniform(0, 3))), cloth, THING)


def _table(rng: np.random.Generator, canvas: Canvas, near: Float, unit_px: float, cloth: Cloth) -> None:
    length, thick, height = unit_px * rng.uniform((2.5, 0.2, 1.2), (6.0, 0.45, 3.0))
    left = near[0] - length * rng.uniform(0.2, 0.8)
    for x in (left + 0.08 * length, left + 0.86 * length):
        canvas.paint(blob(box(x, near[1], thick * 0.7, height)), cloth, THING)
    canvas.paint(blob(box(left, near[1] - thick / 2, length, thick)), cloth, THING)


def photograph(rng: np.random.Generator, pixels: Float) -> Image:
    """(H, W, 3) uint8: uneven light, colour cast, contrast, blur and sensor noise; nothing moves."""
    h, w = pixels.shape[:2]
    tilt = rng.normal(0, 0.22, 2)
    light = 1 + tilt[0] * np.linspace(-1, 1, w)[None, :] + tilt[1] * np.linspace(-1, 1, h)[:, None]
    gain = rng.uniform(0.7, 1.15) * rng.normal(1, 0.07, 3)
    seen = pixels * np.clip(light, 0.4, 1.6)[..., None].astype(np.float32) * gain.astype(np.float32)
    seen = (seen - 110) * np.float32(rng.uniform(0.7, 1.15)) + 110
    if rng.random() < 0.5:
        seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.3, 1.1))
    seen += rng.standard_normal(seen.shape, dtype=np.float32) * np.float32(rng.uniform(1, 8))
    return np.asarray(np.clip(np.rint(seen), 0, 255), dtype=np.uint8)
