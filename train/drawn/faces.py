"""Pictures of faces with ibug68 keypoints. Knows skin, hair, glasses and hands, not where the points lie in space."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np

from edgekp.coco import AREA_OF_BOX
from edgekp.sample import Float, Int
from train.drawn.canvas import Canvas, Cloth, blob, box, common, ellipse, hull, limb, plain, ribbon
from train.drawn.face_shape import BRIDGE, BROWS, EYES, JAW, LIPS, MOUTH, NOSTRILS, Face, draw_face
from train.drawn.scene import (
    THING,
    Drawing,
    Labelled,
    empty_scene,
    hair_color,
    photograph,
    random_cloth,
    random_color,
    skin_color,
)

COMPANY_ODDS = (0.75, 0.25)  # 1 or 2 faces
ENOUGH_VISIBLE = 36  # a face with fewer visible points is drawn anew
PARTS = 4  # owner number of a pixel = 1 + face * PARTS + part


class Part(IntEnum):
    """What a pixel of a person can belong to; only the skin of the face shows keypoints."""

    SKIN = 0
    HAIR = 1
    BODY = 2
    SHADES = 3


@dataclass(frozen=True)
class Portrait:
    """A face at its place in the picture, and how it looks.

    Attributes:
        unit_px: half the width of the face, pixels.
        origin: (2,) where the middle of the head is, pixels.
    """

    face: Face
    unit_px: float
    origin: Float
    number: int
    skin: Cloth
    hair: Cloth

    def project(self, points: Float) -> Float:
        """(..., 2) pixels of (..., 3) points in camera axes, without perspective."""
        return np.asarray(self.origin + points[..., :2] * (self.unit_px, -self.unit_px))

    def at(self, left: float, up: float, forward: float) -> Float:
        """(2,) pixels of a point given in the head's own axes."""
        return self.project(self.face.at(left, up, forward))

    def along(self, left: Float, up: Float, forward: Float) -> Float:
        """(N, 2) the same for N points."""
        return self.project(np.stack([left, up, forward], axis=1) @ self.face.axes.T)

    def part(self, part: Part) -> int:
        return 1 + self.number * PARTS + part


def draw_faces(rng: np.random.Generator, count: int) -> Drawing:
    """A picture with ``count`` faces side by side, each of them recognisable."""
    while True:
        column = int(rng.integers(190, 261))
        size_wh = (column * count, int(rng.integers(200, 261)))
        canvas = empty_scene(rng, size_wh)
        portraits = [_place(rng, number, column, size_wh[1]) for number in range(count)]
        for portrait in portraits:
            _paint_portrait(rng, canvas, portrait)
        subjects = tuple(_label(canvas.owner, portrait) for portrait in portraits)
        if all((s.visibility == 2).sum() >= ENOUGH_VISIBLE and (s.visibility > 0).all() for s in subjects):
            return Drawing(photograph(rng, canvas.pixels), subjects, canvas.owner)


def _place(rng: np.random.Generator, number: int, column: int, height: int) -> Portrait:
    unit_px = rng.uniform(24, min(column / 2.9, height / 3.6))
    margin = 1.35 * unit_px
    x = rng.uniform(margin, column - margin) + number * column
    y = rng.uniform(1.25 * unit_px, height - 1.6 * unit_px)
    hair = hair_color(rng)
    strands = Cloth(hair, hair * 0.65, "stripes", max(2.5, 0.12 * unit_px))
    return Portrait(draw_face(rng), unit_px, np.array([x, y]), number, plain(skin_color(rng)), strands)


def _paint_portrait(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    """From the back of the head to whatever hides the face."""
    bald, long_hair = rng.random() < 0.12, rng.random() < 0.4
    _body(rng, canvas, portrait)
    if not bald:
        _hair_behind(canvas, portrait, long_hair)
    _skin(canvas, portrait)
    if rng.random() < 0.18:
        _beard(canvas, portrait)
    _nose(canvas, portrait)
    _mouth(rng, canvas, portrait)
    _eyes(rng, canvas, portrait)
    if not bald:
        _hair_in_front(rng, canvas, portrait, long_hair)
    if rng.random() < 0.28:
        _glasses(rng, canvas, portrait)
    if rng.random() < 0.13:
        _hat(rng, canvas, portrait)
    if rng.random() < 0.22:
        _hide(rng, canvas, portrait)


def _body(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    unit, chin = portrait.unit_px, portrait.at(0, -0.9, -0.4)
    collar = np.array([chin[0] * 0.6 + portrait.origin[0] * 0.4, portrait.origin[1] + 1.75 * unit])
    shoulders = np.array([[-1.3, 0.75], [1.3, 0.75], [0.0, 0.35], [-1.6, 3.5], [1.6, 3.5]]) * unit + collar
    canvas.paint(limb(portrait.at(0, -0.3, -0.5), collar + (0, 0.3 * unit), 0.62 * unit, 0.6 * unit), portrait.skin,
                 portrait.part(Part.BODY))
    canvas.paint(blob(hull(shoulders, np.full(5, 0.4 * unit))), random_cloth(rng, unit), portrait.part(Part.BODY))


def _hair_behind(canvas: Canvas, portrait: Portrait, long_hair: bool) -> None:
    unit = portrait.unit_px
    centers = [portrait.at(0, 0.35, -0.3), portrait.at(0, 0.3, -0.8)]
    radii = [1.06, 0.98]
    if long_hair:
        centers += [portrait.at(-0.55, -1.2, -0.7), portrait.at(0.55, -1.2, -0.7)]
        radii += [0.6, 0.6]
    canvas.paint(blob(hull(np.stack(centers), np.array(radii) * unit)), portrait.hair, portrait.part(Part.HAIR))


def _face_outline(portrait: Portrait) -> Float:
    points = portrait.project(np.concatenate([portrait.face.keypoints[JAW], portrait.face.rim]))
    return np.asarray(cv2.convexHull(points.astype(np.float32)), dtype=float).reshape(-1, 2)


def _skin(canvas: Canvas, portrait: Portrait) -> None:
    unit = portrait.unit_px
    for sign in (-1, 1):
        lobe = np.stack([portrait.at(sign * 1.03, 0.2, -0.5), portrait.at(sign * 1.0, -0.15, -0.5)])
        canvas.paint(blob(hull(lobe, np.array([0.15, 0.1]) * unit)), portrait.skin, portrait.part(Part.SKIN))
    outline = _face_outline(portrait)
    canvas.stain(outline + (0, 0.06 * unit), portrait.skin.color * 0.35, 0.6)  # shadow below the chin
    canvas.paint(blob(outline), portrait.skin, portrait.part(Part.SKIN))


def _beard(canvas: Canvas, portrait: Portrait) -> None:
    points = portrait.face.keypoints
    inner = points[LIPS][[6, 5, 4, 3, 2, 1, 0]] + portrait.face.axes[:, 1] * 0.12
    canvas.stain(portrait.project(np.concatenate([points[JAW][2:15], inner])), portrait.hair.color, 0.8)


def _nose(canvas: Canvas, portrait: Portrait) -> None:
    unit, skin = portrait.unit_px, portrait.skin.color
    bridge, base = (portrait.project(portrait.face.keypoints[part]) for part in (BRIDGE, NOSTRILS))
    shaded = base[0] if canvas.light[0] > 0 else base[4]
    canvas.stain(np.stack([bridge[0], bridge[3], base[2], shaded]), skin * 0.62, 0.7)
    canvas.stain(ellipse(bridge[3], (0.12 * unit, 0.1 * unit)), np.minimum(skin * 1.15, 255), 0.5)
    canvas.stain(ribbon(base, 0.022 * unit), skin * 0.5, 0.9)
    for nostril in (base[:3].mean(axis=0), base[2:].mean(axis=0)):
        canvas.stain(ellipse(nostril, (0.06 * unit, 0.035 * unit)), skin * 0.25)


def _mouth(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    outer, inner = (portrait.project(portrait.face.keypoints[part]) for part in (LIPS, MOUTH))
    lips = portrait.skin.color * rng.uniform((0.75, 0.4, 0.4), (1.0, 0.65, 0.7))
    canvas.stain(outer, lips)
    canvas.stain(inner, np.array([50.0, 18, 20]))
    if portrait.face.open > 0.12 and rng.random() < 0.7:
        upper = inner[:5]
        edge = upper * 0.7 + inner[[0, 7, 6, 5, 4]] * 0.3
        canvas.stain(np.concatenate([upper, edge[::-1]]), np.array([235.0, 232, 220]))


def _eyes(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    unit, points = portrait.unit_px, portrait.face.keypoints
    iris, gaze = rng.uniform((40, 30, 20), (110, 130, 140)), rng.normal(0, (0.05, 0.015)) * unit
    thick = rng.uniform(0.03, 0.075) * unit
    for brow, eye in zip(BROWS, EYES, strict=True):
        lids = portrait.project(points[eye])
        canvas.stain(lids, np.array([238.0, 234, 230]))
        for radius, color in ((0.095, iris), (0.045, np.array([15.0, 12, 12]))):
            seen = common(lids, ellipse(lids.mean(axis=0) + gaze, (radius * unit, radius * unit)))
            if len(seen) > 2:
                canvas.stain(seen, color)
        canvas.stain(ribbon(lids[:4], 0.025 * unit), portrait.hair.color * 0.35)
        canvas.stain(ribbon(lids[[3, 4, 5, 0]], 0.012 * unit), portrait.skin.color * 0.5)
        canvas.stain(ribbon(portrait.project(points[brow]), thick), portrait.hair.color * 0.75, 0.9)


def _hair_in_front(rng: np.random.Generator, canvas: Canvas, portrait: Portrait, long_hair: bool) -> None:
    unit, line = portrait.unit_px, rng.uniform(0.72, 0.95)
    part = rng.uniform(-0.6, 0.6)
    x, turn = np.linspace(-1, 1, 9), np.linspace(0.25, np.pi - 0.25, 9)
    hairline = portrait.along(x, line - 0.16 * (x - part) ** 2, 0.25 - 0.45 * x * x)
    crown = portrait.along(1.06 * np.cos(turn), 0.35 + 0.98 * np.sin(turn), np.full(9, -0.3))
    canvas.paint(blob(np.concatenate([hairline, crown])), portrait.hair, portrait.part(Part.HAIR))
    if long_hair and rng.random() < 0.5:
        for sign in (-1, 1):
            top, tip = portrait.at(sign * 0.98, 0.5, -0.2), portrait.at(sign * 0.98, -1.1, -0.2)
            canvas.paint(limb(top, tip, 0.2 * unit, 0.26 * unit), portrait.hair, portrait.part(Part.HAIR))


def _glasses(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    """Frames hide nothing; one pair in six is dark and hides the eyes."""
    unit, frame = portrait.unit_px, random_color(rng) * 0.6
    dark = rng.random() < 0.17
    before = portrait.face.axes[:, 2] * 0.1
    centers = [portrait.project(portrait.face.keypoints[eye].mean(axis=0) + before) for eye in EYES]
    narrow = float(portrait.face.axes[2, 2])
    radii = (rng.uniform(0.27, 0.34) * unit * narrow, rng.uniform(0.2, 0.28) * unit)
    turn = float(np.arctan2(*(centers[1] - centers[0])[::-1]))
    for center, sign in zip(centers, (-1, 1), strict=True):
        rim = ellipse(center, radii, turn)
        if dark:
            canvas.paint(blob(rim), plain(frame * 0.3), portrait.part(Part.SHADES))
        canvas.stain(ribbon(np.concatenate([rim, rim[:1]]), 0.02 * unit), frame)
        hinge = center + np.array([np.cos(turn), np.sin(turn)]) * radii[0] * sign
        canvas.stain(limb(hinge, portrait.at(sign * 1.0, 0.2, -0.4), 0.02 * unit, 0.02 * unit).outline, frame)


def _hat(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    unit, cloth = portrait.unit_px, random_cloth(rng, portrait.unit_px)
    low = rng.uniform(0.62, 0.85)
    crown = np.stack([portrait.at(x, y, -0.25) for x, y in ((-0.8, low), (0.8, low), (0.0, low + 0.5))])
    canvas.paint(blob(hull(crown, np.array([0.28, 0.28, 0.45]) * unit)), cloth, portrait.part(Part.HAIR))
    brim = limb(portrait.at(-0.9, low - 0.08, 0.3), portrait.at(0.9, low - 0.08, 0.3), 0.1 * unit, 0.1 * unit)
    canvas.paint(brim, cloth, portrait.part(Part.HAIR))


def _hide(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    """A hand, a scarf or some object in front of the face."""
    unit, kind = portrait.unit_px, rng.random()
    if kind < 0.5:
        _hand(rng, canvas, portrait)
    elif kind < 0.75:
        height = rng.uniform(-1.15, -0.55)
        ends = portrait.along(np.array([-1.0, 0, 1]), height - np.array([0, 0.35, 0]), np.array([-0.3, 0.45, -0.3]))
        low = ends + (0, 0.9 * unit)
        canvas.paint(blob(hull(np.concatenate([ends, low]), np.full(6, 0.12 * unit))), random_cloth(rng, unit), THING)
    else:
        size = rng.uniform(0.4, 1.1, 2) * unit
        at = portrait.origin + rng.uniform(-1.1, 1.1, 2) * unit
        canvas.paint(blob(box(*(at - size / 2), *size)), random_cloth(rng, unit), THING)


def _hand(rng: np.random.Generator, canvas: Canvas, portrait: Portrait) -> None:
    """Palm and four fingers that come from below onto the cheek, the chin or the mouth."""
    unit = portrait.unit_px
    palm = portrait.origin + rng.uniform((-1.0, 0.7), (1.0, 1.3)) * unit
    up = np.deg2rad(rng.uniform(-60, 60))
    ahead, aside = np.array([np.sin(up), -np.cos(up)]), np.array([np.cos(up), np.sin(up)])
    canvas.paint(limb(palm - ahead * 2.5 * unit, palm, 0.36 * unit, 0.3 * unit), portrait.skin, THING)
    for place, reach in zip((-0.3, -0.1, 0.1, 0.3), (0.62, 0.75, 0.72, 0.55), strict=True):
        knuckle = palm + aside * place * unit
        tip = knuckle + (ahead * reach + aside * place * rng.uniform(0, 0.5)) * unit
        canvas.stain(limb(knuckle, tip, 0.13 * unit, 0.11 * unit).outline, portrait.skin.color * 0.4, 0.8)
        canvas.paint(limb(knuckle, tip, 0.11 * unit, 0.09 * unit), portrait.skin, THING)


def _label(owner: Int, portrait: Portrait) -> Labelled:
    """Keypoints with their true visibility and their tight box."""
    h, w = owner.shape
    xy = portrait.project(portrait.face.keypoints)
    middle = portrait.project(portrait.face.keypoints[BRIDGE][3])
    inward = (middle - xy) / np.maximum(np.hypot(*(middle - xy).T), 1.0)[:, None]
    column, row = np.rint(xy + 1.5 * inward).astype(int).T  # the jaw is the very edge of the skin
    inside = ((xy >= -0.5) & (xy < (w - 0.5, h - 0.5))).all(axis=1)
    shown = owner[np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)] == portrait.part(Part.SKIN)
    visibility = np.where(shown & ~portrait.face.turned_away, 2, 1)
    visibility[~inside] = 0
    low = xy.min(axis=0)
    size = np.ptp(xy, axis=0)
    return Labelled(xy, visibility, np.concatenate([low, size]), float(np.prod(size)) * AREA_OF_BOX)
