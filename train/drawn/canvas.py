"""A painter's canvas that remembers who painted each pixel. Knows shapes, shading and patterns, no anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edgekp.sample import Float, Image

Pattern = Literal["plain", "rings", "stripes", "plaid", "dots", "mottled"]
PATTERNS: tuple[Pattern, ...] = ("plain", "rings", "stripes", "plaid", "dots", "mottled")
FINER = 4  # cells per pixel side: OpenCV's own antialiasing thickens shapes by half a pixel and may shift them by 0.3
SUBPIXEL_BITS = 4  # OpenCV's fixed point: corners lie on a grid of 1/16 cell
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 25)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 25)[:-1])], axis=1)


@dataclass(frozen=True)
class Cloth:
    """What a surface is made of.

    Attributes:
        color, second: RGB, 0..255; the pattern mixes them.
        period_px: length of one repetition of the pattern.
    """

    color: Float
    second: Float
    pattern: Pattern = "plain"
    period_px: float = 8.0
    phase: float = 0.0


@dataclass(frozen=True)
class Shape:
    """An outline and the round body it stands for: the axis and its radii bend the light as a limb would.

    Attributes:
        outline: (M, 2) polygon, pixels.
        axis: (2, 2) the two ends of the body, pixels.
        radii: half width of the body at both ends, pixels.
    """

    outline: Float
    axis: Float
    radii: tuple[float, float]


def plain(color: Float) -> Cloth:
    """A surface of one colour."""
    return Cloth(color, color)


def hull(centers: Float, radii: Float) -> Float:
    """(M, 2) convex outline around discs: two of them make a tapered limb, more a trunk."""
    rims = (np.asarray(centers)[:, None] + np.asarray(radii, dtype=float)[:, None, None] * _CIRCLE).reshape(-1, 2)
    return np.asarray(cv2.convexHull(rims.astype(np.float32)), dtype=float).reshape(-1, 2)


def limb(start: Float, end: Float, start_radius: float, end_radius: float) -> Shape:
    """A tapered capsule."""
    axis = np.stack([start, end])
    return Shape(hull(axis, np.array([start_radius, end_radius])), axis, (start_radius, end_radius))


def blob(outline: Float) -> Shape:
    """A polygon shaded as an upright body of its own width."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    middle = (low[0] + high[0]) / 2
    radius = max(1.0, (high[0] - low[0]) / 2)
    return Shape(outline, np.array([[middle, low[1]], [middle, high[1] + 1e-3]]), (radius, radius))


def ellipse(center: Float, radii: tuple[float, float], turn_rad: float = 0.0) -> Float:
    """(24, 2) outline."""
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    return np.asarray(center + (_CIRCLE * radii) @ np.array([[cos, sin], [-sin, cos]]), dtype=float)


def ribbon(points: Float, half_width: float) -> Float:
    """(2N, 2) outline of a line of that thickness through (N, 2) points."""
    ahead = np.gradient(points, axis=0)
    side = ahead[:, ::-1] * (-1, 1) / np.maximum(np.hypot(ahead[:, 0], ahead[:, 1]), 1e-6)[:, None] * half_width
    return np.concatenate([points + side, (points - side)[::-1]])


def common(first: Float, second: Float) -> Float:
    """Outline of what two convex outlines share, (0, 2) where they do not meet."""
    _, shared = cv2.intersectConvexConvex(first.astype(np.float32), second.astype(np.float32))
    return np.zeros((0, 2)) if shared is None else np.asarray(shared, dtype=float).reshape(-1, 2)


def box(x: float, y: float, w: float, h: float) -> Float:
    """(4, 2) outline of an upright rectangle."""
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=float)


class Canvas:
    """Pixels and, beside them, the number of the last shape that covered each.

    Attributes:
        pixels: (H, W, 3) float32 RGB, 0..255.
        owner: (H, W) uint16, 0 where only background was painted.
        light: (3,) unit vector towards the lamp: right, down, out of the picture.
    """

    def __init__(self, pixels: Float, light: Float, ambient: float = 0.45) -> None:
        self.pixels = pixels.astype(np.float32)
        self.owner = np.zeros(pixels.shape[:2], dtype=np.uint16)
        self.light = light
        self.ambient = ambient

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def paint(self, shape: Shape, cloth: Cloth, owner: int) -> None:
        """Cover the shape; a pixel changes hands where at least half of it is covered."""
        place, mask = self._mask(shape.outline)
        if mask.size == 0:
            return
        along, across, bulge = _body_coordinates(place, mask.shape, shape)
        color = _patterned(cloth, along, across) * self._brightness(bulge, shape)[..., None]
        self._blend(place, mask, color)
        self._own(place, mask, owner)

    def stain(self, outline: Float, color: Float, strength: float = 1.0) -> None:
        """Paint detail onto whoever is there: eyes, seams, shadows; the owner stays."""
        place, mask = self._mask(outline)
        if mask.size:
            self._blend(place, (mask * strength).astype(np.uint8), np.asarray(color, dtype=np.float32))

    def _mask(self, outline: Float) -> tuple[tuple[slice, slice], Image]:
        """Rows and columns that the outline touches, and its coverage there, 0..255."""
        h, w = self.size_hw
        low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, (w, h))
        columns, rows = np.maximum(high - low, 0).tolist()
        place = slice(low[1], high[1]), slice(low[0], high[0])
        fine = np.zeros((rows * FINER, columns * FINER), dtype=np.uint8)
        if not fine.size:
            return place, fine
        corners = (outline - low + 0.5) * FINER - 0.5
        cv2.fillPoly(fine, [np.rint(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)], 255, cv2.LINE_8, SUBPIXEL_BITS)
        return place, np.asarray(cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _blend(self, place: tuple[slice, slice], mask: Image, color: Float) -> None:
        under = self.pixels[place]
        under += (color - under) * (mask[..., None] * np.float32(1 / 255))

    def _own(self, place: tuple[slice, slice], mask: Image, owner: int) -> None:
        self.owner[place][mask >= 128] = owner

    def _brightness(self, bulge: Float, shape: Shape) -> Float:
        """Lambert's law on a cylinder, and a dark rim that sets an arm off from a trunk of the same colour.

        ``bulge`` is -1..1 from one edge of the body to the other.
        """
        across = _unit(shape.axis[1] - shape.axis[0])[::-1] * (-1, 1)
        toward = np.sqrt(np.maximum(1 - bulge * bulge, 0))
        lit = np.maximum(bulge * np.float32(across @ self.light[:2]) + toward * np.float32(self.light[2]), 0)
        rim = np.maximum(np.abs(bulge) - 0.7, 0) / 0.3
        return np.asarray((self.ambient + (1.25 - self.ambient) * lit) * (1 - 0.5 * rim * rim), dtype=np.float32)


def _unit(vector: Float) -> Float:
    return np.asarray(vector / max(float(np.hypot(*vector)), 1e-6), dtype=float)


def _body_coordinates(place: tuple[slice, slice], size: tuple[int, ...], shape: Shape) -> tuple[Float, Float, Float]:
    """Distances in pixels along and across the body, and the latter as a fraction of its radius, -1..1."""
    x = np.arange(size[1], dtype=np.float32) + np.float32(place[1].start - shape.axis[0, 0])
    y = np.arange(size[0], dtype=np.float32)[:, None] + np.float32(place[0].start - shape.axis[0, 1])
    length = max(float(np.hypot(*(shape.axis[1] - shape.axis[0]))), 1e-6)
    ux, uy = (np.float32(v) for v in _unit(shape.axis[1] - shape.axis[0]))
    along, across = x * ux + y * uy, y * ux - x * uy
    slope = np.float32((shape.radii[1] - shape.radii[0]) / length)
    radius = np.clip(shape.radii[0] + slope * along, min(shape.radii), max(shape.radii))
    return along, across, np.clip(across / np.maximum(radius, 0.5), -1, 1)


def _patterned(cloth: Cloth, along: Float, across: Float) -> Float:
    """(h, w, 3) colour of each pixel."""
    if cloth.pattern == "plain":
        return np.broadcast_to(cloth.color.astype(np.float32), (*along.shape, 3))
    turn = np.float32(2 * np.pi / cloth.period_px)
    u, v = along * turn + np.float32(cloth.phase), across * turn + np.float32(cloth.phase)
    share = {"rings": lambda: np.sin(u) > 0.2, "stripes": lambda: np.sin(v) > 0.2,
             "plaid": lambda: 0.5 * (np.sin(u) > 0.3) + 0.5 * (np.sin(v) > 0.3),
             "dots": lambda: np.sin(u) * np.sin(v) > 0.35,
             "mottled": lambda: 0.5 + 0.5 * np.sin(u * 0.7 + 1.3 * np.sin(v * 0.6)) * np.cos(v * 0.9 - 0.5 * u),
             }[cloth.pattern]()
    mixed = share.astype(np.float32)[..., None]
    return np.asarray(cloth.color + mixed * (cloth.second - cloth.color), dtype=np.float32)
