"""A person's flesh and clothes around a posed body, painted from far to near. Knows no placement and no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import numpy as np

from edgekp.sample import Float
from train.drawn.canvas import Canvas, Cloth, Shape, blob, box, ellipse, hull, limb, plain
from train.drawn.pose import LEFT, RIGHT, Body
from train.drawn.scene import THING, hair_color, random_cloth, random_color, skin_color

HairStyle = Literal["short", "long", "over the ears", "none"]
PARTS = 16  # owner number of a pixel = 1 + person * PARTS + part


class Part(IntEnum):
    """What a pixel of a person can belong to; limbs come left, then right."""

    HEAD = 0
    HAIR = 1
    TRUNK = 2
    EAR = 3
    UPPER_ARM = 5
    FOREARM = 7
    THIGH = 9
    SHIN = 11
    FOOT = 13


@dataclass(frozen=True)
class Outfit:
    """What a person wears and how the head looks.

    Attributes:
        sleeve, leg: share of the arm and of the leg that clothes cover, 0..2: 1 reaches the elbow or the knee.
    """

    skin: Cloth
    hair: Cloth
    shirt: Cloth
    trousers: Cloth
    shoes: Cloth
    trim: Float
    hat: Cloth | None
    hair_style: HairStyle
    sleeve: float
    leg: float
    zip: bool


@dataclass(frozen=True)
class Figure:
    """A body at its place in the picture.

    Attributes:
        head_px: height of the head, pixels: the unit of the body.
        origin: (2,) where the middle of the pelvis is, pixels.
    """

    body: Body
    outfit: Outfit
    head_px: float
    origin: Float

    def project(self, points: Float) -> Float:
        """(..., 2) pixels of (..., 3) points in camera axes, without perspective."""
        return np.asarray(self.origin + points[..., :2] * (self.head_px, -self.head_px))


@dataclass(frozen=True)
class Layer:
    """One shape of a figure; layers are painted from far to near."""

    depth: float
    shape: Shape
    cloth: Cloth
    part: int


def dress(rng: np.random.Generator, head_px: float) -> Outfit:
    """Random clothes for a person whose head is that high."""
    hair = hair_color(rng)
    return Outfit(
        skin=plain(skin_color(rng)), hair=Cloth(hair, hair * 0.7, "stripes", max(2.5, 0.2 * head_px)),
        shirt=random_cloth(rng, head_px, plain_p=0.6), trousers=random_cloth(rng, head_px, plain_p=0.75),
        shoes=plain(random_color(rng)), trim=random_color(rng),
        hat=random_cloth(rng, head_px, plain_p=0.8) if rng.random() < 0.15 else None,
        hair_style=get_args(HairStyle)[int(rng.choice(4, p=[0.5, 0.28, 0.12, 0.10]))],
        sleeve=float(rng.choice([0.0, 0.55, 1.5, 2.0], p=[0.12, 0.43, 0.1, 0.35])),
        leg=float(rng.choice([0.45, 0.9, 1.5, 2.0], p=[0.15, 0.2, 0.1, 0.55])), zip=bool(rng.random() < 0.5))


def paint_figure(rng: np.random.Generator, canvas: Canvas, figure: Figure, number: int) -> None:
    """Paint a person with a shadow, and sometimes a seat under who sits."""
    if figure.body.seated and rng.random() < 0.75:
        _seat(rng, canvas, figure)
    feet, unit = figure.project(figure.body.toes).mean(axis=0), figure.head_px
    canvas.stain(ellipse(feet + (0, 0.1 * unit), (1.3 * unit, 0.3 * unit)), np.zeros(3), 0.35)
    for layer in sorted([*_limbs(figure), *_trunk(figure), *_head(figure)], key=lambda each: each.depth):
        canvas.paint(layer.shape, layer.cloth, 1 + number * PARTS + layer.part)
        if layer.part == Part.TRUNK and layer.cloth is figure.outfit.shirt:
            _front_of_shirt(canvas, figure)
        if layer.part == Part.HEAD:
            _features(canvas, figure)


def _seat(rng: np.random.Generator, canvas: Canvas, figure: Figure) -> None:
    """A box from below the pelvis to the floor."""
    wide, cloth = figure.head_px * rng.uniform(0.9, 1.4), random_cloth(rng, figure.head_px)
    top = figure.origin[1] + 0.28 * figure.head_px
    height = float(figure.project(figure.body.keypoints[15:17])[:, 1].max()) - top
    if height > 2:
        canvas.paint(blob(box(figure.origin[0] - wide, top, 2 * wide, height)), cloth, THING)


def _limbs(figure: Figure) -> list[Layer]:
    """Arms and legs: skin first, then what the clothes cover."""
    body, outfit = figure.body, figure.outfit
    points, layers = body.keypoints, []
    for side in (LEFT, RIGHT):
        shoulder, elbow, wrist, hip, knee, ankle = points[5 + side::2][:6]
        segments = [  # near end, far end, radii in heads, part, cloth, covered share, depth bias
            (shoulder, elbow, (0.215, 0.165), Part.UPPER_ARM, outfit.shirt, outfit.sleeve, 0.05),
            (elbow, wrist, (0.165, 0.11), Part.FOREARM, outfit.shirt, outfit.sleeve - 1, 0.06),
            (wrist, body.hands[side], (0.115, 0.085), Part.FOREARM, outfit.shirt, 0.0, 0.07),
            (hip, knee, (0.33, 0.215), Part.THIGH, outfit.trousers, outfit.leg, -0.25),
            (knee, ankle, (0.21, 0.13), Part.SHIN, outfit.trousers, outfit.leg - 1, -0.22),
            (ankle, body.toes[side], (0.15, 0.10), Part.FOOT, outfit.shoes, 1.0, -0.2),
        ]
        for start, end, radii, part, cloth, covered, bias in segments:
            depth = float(start[2] + end[2]) / 2 + bias
            if covered < 1:
                layers.append(_segment(figure, start, end, radii, outfit.skin, part + side, depth))
            if covered > 0:
                share = min(covered, 1.0)
                cuff = (radii[0] * 1.06, (radii[0] + (radii[1] - radii[0]) * share) * 1.1)
                edge = start + (end - start) * share
                layers.append(_segment(figure, start, edge, cuff, cloth, part + side, depth + 1e-3))
    return layers


def _segment(figure: Figure, start: Float, end: Float, radii: tuple[float, float], cloth: Cloth, part: int,
             depth: float) -> Layer:
    thick = figure.head_px * figure.body.proportions.girth
    shape = limb(figure.project(start), figure.project(end), radii[0] * thick, radii[1] * thick)
    return Layer(depth, shape, cloth, part)


def _trunk(figure: Figure) -> list[Layer]:
    """Pelvis, shirt and neck."""
    body, unit = figure.body, figure.head_px * figure.body.proportions.girth
    shoulders, hips = body.keypoints[5:7], body.keypoints[11:13]
    inset = shoulders + (shoulders.mean(axis=0) - shoulders) * 0.08
    waist = hips * 0.85 + body.trunk_axes[:, 1] * 0.55
    depth = float(body.chest[2]) * 0.8 - 0.12
    pelvis = _around(figure, hips, np.array([0.33, 0.33]) * unit)
    shirt = _around(figure, np.concatenate([inset, waist, body.chest[None], hips * 0.9 + body.trunk_axes[:, 1] * 0.12]),
                    np.array([0.21, 0.21, 0.3, 0.3, 0.42, 0.33, 0.33]) * unit)
    neck = limb(figure.project(body.neck), figure.project(body.head), 0.19 * unit, 0.18 * unit)
    return [Layer(min(depth, -0.12) - 0.05, pelvis, figure.outfit.trousers, Part.TRUNK),
            Layer(depth, shirt, figure.outfit.shirt, Part.TRUNK),
            Layer(float(body.neck[2] + body.head[2]) / 2 - 0.13, neck, figure.outfit.skin, Part.TRUNK)]


def _around(figure: Figure, points: Float, radii: Float) -> Shape:
    """The hull of discs, shaded along the spine as wide as it is."""
    outline = hull(figure.project(points), radii)
    spine = figure.project(np.stack([figure.body.neck, np.zeros(3)]))
    across = (spine[1] - spine[0])[::-1] * (-1, 1)
    across = across / max(float(np.hypot(*across)), 1e-6)
    half = max(1.0, float(np.abs((outline - spine[1]) @ across).max()))
    return Shape(outline, spine, (half, half))


def _on_trunk(figure: Figure, left: float, up: float, forward: float) -> Float:
    return np.asarray(figure.project(figure.body.trunk_axes @ np.array([left, up, forward])))


def _front_of_shirt(canvas: Canvas, figure: Figure) -> None:
    """Neckline and zip, which only the chest has: with face and feet, they tell left from right."""
    body, top = figure.body, figure.body.proportions.torso
    if body.trunk_axes[2, 2] < 0.2:
        return
    collar = np.stack([_on_trunk(figure, -0.22, top + 0.12, 0.12), _on_trunk(figure, 0.22, top + 0.12, 0.12),
                       _on_trunk(figure, 0, top - 0.35, 0.32)])
    if figure.outfit.zip:
        half_px = 0.05 * figure.head_px
        canvas.stain(limb(collar[2], _on_trunk(figure, 0, 0.0, 0.34), half_px, half_px).outline, figure.outfit.trim)
    canvas.stain(collar, figure.outfit.skin.color * 0.85)


def _on_head(figure: Figure, left: float, up: float, forward: float) -> Float:
    """(3,) a point of the head in camera axes; arguments in heads from the middle of the skull."""
    offset = np.array([left, up, forward]) * figure.body.proportions.head
    return np.asarray(figure.body.head + figure.body.head_axes @ offset)


def _head(figure: Figure) -> list[Layer]:
    """Skull, ears, hair and hat. Places are in heads from the middle of the skull: left, up, forward."""
    outfit, toward = figure.outfit, float(figure.body.head_axes[2, 0])
    skull = [(0, 0.08, 0.05), (0, 0.08, -0.1), (0, -0.27, 0.14)]
    layers = [_lump(figure, skull, [0.37, 0.36, 0.22], outfit.skin, Part.HEAD)]
    for side, sign in ((LEFT, 1.0), (RIGHT, -1.0)):
        near = sign * 0.39 * toward
        ear = [(sign * 0.39, 0.02, -0.02), (sign * 0.39, -0.1, -0.02)]
        layers.append(_lump(figure, ear, [0.08, 0.07], outfit.skin, Part.EAR + side, nearer=near + 0.05))
        if outfit.hair_style == "over the ears":
            lock = [(sign * 0.36, 0.15, 0.0), (sign * 0.38, -0.35, 0.0)]
            layers.append(_lump(figure, lock, [0.1, 0.13], outfit.hair, Part.HAIR, nearer=near + 0.06))
    if outfit.hair_style != "none":
        layers.append(_lump(figure, [(0, 0.15, -0.13)], [0.42], outfit.hair, Part.HAIR, -0.2))
        fringe = [(-0.24, 0.37, 0.18), (0.24, 0.37, 0.18)]
        layers.append(_lump(figure, fringe, [0.11, 0.11], outfit.hair, Part.HAIR, 0.25))
    if outfit.hair_style == "long":
        layers.append(_lump(figure, [(0, 0.1, -0.2), (0, -0.6, -0.25)], [0.4, 0.34], outfit.hair, Part.HAIR, -0.35))
    if outfit.hat is not None:
        brim = [(-0.2, 0.27, 0.3), (0.2, 0.27, 0.3), (0, 0.26, 0.6)]
        layers.append(_lump(figure, [(0, 0.36, -0.04), (0, 0.42, -0.05)], [0.42, 0.34], outfit.hat, Part.HAIR, 0.26))
        layers.append(_lump(figure, brim, [0.07, 0.07, 0.05], outfit.hat, Part.HAIR, 0.3))
    return layers


def _lump(figure: Figure, places: Sequence[tuple[float, float, float]], radii: list[float], cloth: Cloth, part: int,
          forward: float = 0.0, nearer: float = 0.0) -> Layer:
    """The hull of discs on the head.

    Args:
        forward: how far before the middle of the skull it counts when layers are sorted, in heads.
        nearer: the same, towards the viewer.
    """
    unit = figure.head_px * figure.body.proportions.head
    outline = hull(figure.project(np.stack([_on_head(figure, *place) for place in places])), np.array(radii) * unit)
    depth = float(figure.body.head[2] + figure.body.head_axes[2, 2] * forward) + nearer
    return Layer(depth, blob(outline), cloth, part)


def _features(canvas: Canvas, figure: Figure) -> None:
    """Eyes, nose and mouth, where they face the viewer."""
    unit, skin = figure.head_px * figure.body.proportions.head, figure.outfit.skin.color
    nose, *eyes = figure.body.keypoints[:3]
    facing = facing_viewer(figure.body)
    for eye, toward in zip(eyes, facing[1:3], strict=True):
        if toward > 0.1:
            center = figure.project(eye)
            canvas.stain(ellipse(center, (0.115 * unit * toward, 0.08 * unit)), np.array([240.0, 240, 240]))
            canvas.stain(ellipse(center, (0.06 * unit, 0.065 * unit)), np.array([30.0, 22, 20]))
            brow = figure.project(eye + figure.body.head_axes[:, 1] * 0.12)
            canvas.stain(ellipse(brow, (0.1 * unit * toward, 0.025 * unit)), figure.outfit.hair.color * 0.8)
    if facing[0] > 0:
        mouth = figure.project(_on_head(figure, 0, -0.29, 0.34))
        canvas.stain(ellipse(mouth, (0.13 * unit * facing[0], 0.035 * unit)), skin * (0.62, 0.4, 0.4))
    if facing[0] > -0.25:
        bridge = figure.project(_on_head(figure, 0, 0.02, 0.38))
        canvas.stain(limb(bridge, figure.project(nose), 0.035 * unit, 0.075 * unit).outline, skin * 0.68)


def facing_viewer(body: Body) -> Float:
    """(5,) how much nose, eyes and ears face the viewer, -1..1."""
    outward = np.array([[0, 0, 1], [0.35, 0, 0.94], [-0.35, 0, 0.94], [0.97, 0, 0.2], [-0.97, 0, 0.2]])
    return np.asarray(outward @ body.head_axes[2])
