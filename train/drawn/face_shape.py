"""The 68 points of a face in space, with its own features, expression and head pose. Knows no pixels and no paint.

Axes as in pose.py: x to the person's left, y up, z forward. The unit is half the width of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekp.sample import Bool, Float
from train.drawn.rotation import about_x, about_y, about_z

# Ranges of points in the iBUG mark-up.
JAW, BROWS = slice(0, 17), (slice(17, 22), slice(22, 27))
BRIDGE, NOSTRILS = slice(27, 31), slice(31, 36)
EYES = (slice(36, 42), slice(42, 48))
LIPS, MOUTH = slice(48, 60), slice(60, 68)
EAR_Y = 0.05


@dataclass(frozen=True)
class Face:
    """A face turned to the camera, in camera axes.

    Attributes:
        keypoints: (68, 3) in the order of ibug68.
        axes: (3, 3) columns are the head's own left, up and forward.
        rim: (M, 3) points of the skin around the face: forehead, temples, cheeks.
        turned_away: (68,) True where the head hides the point from the viewer.
        open: how far the mouth is open, in units.
    """

    keypoints: Float
    axes: Float
    rim: Float
    turned_away: Bool
    open: float

    def at(self, left: float, up: float, forward: float) -> Float:
        """(3,) a point of the head in camera axes."""
        return np.asarray(self.axes @ np.array([left, up, forward]))


def draw_face(rng: np.random.Generator) -> Face:
    """A face of random features, expression and pose; yaw stays within 50 degrees, so that both eyes are seen."""
    opening = float(rng.uniform(0.05, 0.5)) if rng.random() < 0.4 else 0.0
    points = np.concatenate([_jaw(rng, opening), _brows(rng), _nose(rng), _eyes(rng), _mouth(rng, opening)])
    points += rng.normal(0, 0.008, points.shape)
    points *= (1.0, rng.normal(1.0, 0.06), rng.normal(1.0, 0.08))
    yaw, nod, tilt = np.clip(rng.normal(0, (22, 10, 12)), (-50, -25, -40), (50, 25, 40))
    axes = about_z(tilt) @ about_x(nod) @ about_y(yaw)
    outward = points / (1.1, 1.6, 0.6)
    outward[JAW] = points[JAW] * (1.0, 0.3, 0.0) + (0.0, 0.0, 0.05)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return Face(points @ axes.T, axes, _rim() @ axes.T, outward @ axes[2] < -0.3, opening)


def _surface(x: Float, y: Float) -> Float:
    """z of the skin: an ellipsoid."""
    return np.asarray(0.6 * np.sqrt(np.maximum(1 - (x / 1.08) ** 2 - ((y - 0.1) / 1.6) ** 2, 0)))


def _rim() -> Float:
    """(M, 3) forehead and temples, and the ring where cheeks bulge beyond the jaw when the head turns."""
    turn = np.linspace(0, np.pi, 13)
    forehead = np.stack([0.98 * np.cos(turn), EAR_Y + 1.12 * np.sin(turn), -0.35 + 0.35 * np.sin(turn)], axis=1)
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    x, y = 0.85 * np.cos(turn), 0.1 + 0.75 * np.sin(turn)
    return np.concatenate([forehead, np.stack([x, y, _surface(x, y)], axis=1)])


def _jaw(rng: np.random.Generator, opening: float) -> Float:
    """(17, 3) from the right ear along the chin to the left ear."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 17)
    squareness, length = rng.uniform(0.72, 1.05), rng.normal(1.27, 0.07)
    x = np.sign(turn) * np.abs(np.sin(turn)) ** squareness
    depth = np.cos(turn) ** rng.uniform(0.75, 0.95)
    y = EAR_Y - (length + 0.55 * opening) * depth
    return np.stack([x, y, -0.55 + 0.9 * depth], axis=1)


def _brows(rng: np.random.Generator) -> Float:
    """(10, 3) right brow from the temple inwards, then the left one outwards."""
    share = np.linspace(0, 1, 5)
    height, arch, frown = rng.uniform(0.38, 0.58), rng.uniform(0.02, 0.14), rng.uniform(-0.09, 0.09)
    x = rng.uniform(-0.88, -0.76) + share * rng.uniform(0.52, 0.62)
    y = height + arch * np.sin(np.pi * share) + frown * (share - 0.5)
    return _with_mirror(np.stack([x, y, _surface(x, y) + 0.04], axis=1), [4, 3, 2, 1, 0])


def _nose(rng: np.random.Generator) -> Float:
    """(9, 3) the bridge downwards, then the base from right to left."""
    tip, wide, juts = rng.uniform(-0.40, -0.24), rng.uniform(0.18, 0.29), rng.uniform(0.75, 0.95)
    share = np.linspace(0, 1, 4)
    bridge = np.stack([np.zeros(4), 0.15 + share * (tip - 0.15), 0.5 + share ** 1.3 * (juts - 0.5)], axis=1)
    x = np.linspace(-1, 1, 5)
    base = np.stack([x * wide, tip - 0.10 - 0.06 * (1 - np.abs(x)), 0.54 + 0.12 * (1 - x * x)], axis=1)
    return np.concatenate([bridge, base])


def _eyes(rng: np.random.Generator) -> Float:
    """(12, 3) right eye from its outer corner over the top, then the left one from its inner corner."""
    half, apart, slant = rng.uniform(0.16, 0.21), rng.uniform(0.41, 0.49), rng.uniform(-0.03, 0.04)
    opened = rng.uniform(0.01, 0.03) if rng.random() < 0.08 else rng.uniform(0.05, 0.11)
    along = np.array([-1.0, -0.38, 0.38, 1.0, 0.38, -0.38])
    x = along * half - apart
    y = 0.14 + opened * np.array([0.0, 1.0, 1.0, 0.0, -0.75, -0.75]) - slant * along
    return _with_mirror(np.stack([x, y, _surface(x, y) - 0.06], axis=1), [3, 2, 1, 0, 5, 4])


def _mouth(rng: np.random.Generator, opening: float) -> Float:
    """(20, 3) outer lip clockwise on the screen from the right corner, then the inner one."""
    middle, half, full = rng.uniform(-0.82, -0.70), rng.uniform(0.30, 0.44) - 0.15 * opening, rng.uniform(0.07, 0.14)
    smile = rng.uniform(-0.06, 0.12)
    outer_x = np.array([-1, -0.62, -0.22, 0, 0.22, 0.62, 1, 0.62, 0.25, 0, -0.25, -0.62]) * half
    outer_y = full * np.array([0, 0.7, 1.0, 0.85, 1.0, 0.7, 0, -0.85, -1.15, -1.25, -1.15, -0.85])
    inner_x = np.array([-0.85, -0.25, 0, 0.25, 0.85, 0.25, 0, -0.25]) * half
    inner_y = full * np.array([0, 0.12, 0.12, 0.12, 0, -0.12, -0.12, -0.12])
    x, y = np.concatenate([outer_x, inner_x]), np.concatenate([outer_y, inner_y])
    lower = np.concatenate([np.arange(12) > 6, np.arange(8) > 4])
    corner = np.isin(np.arange(20), (0, 6, 12, 16))
    y = y - opening * (0.85 * lower + 0.35 * corner) + smile * (x / half) ** 2 + middle
    return np.stack([x, y, _surface(x, y) + 0.08 * (1 - (x / half) ** 2)], axis=1)


def _with_mirror(right: Float, order: list[int]) -> Float:
    """Points of the right side and, in the order of the mark-up, those of the left."""
    return np.concatenate([right, (right * (-1.0, 1.0, 1.0))[order]])
