"""Pictures of people with coco17 keypoints: who stands where, and what is seen of whom. Knows no anatomy."""

from __future__ import annotations

import numpy as np

from edgekp.sample import Float, Int
from train.drawn.figure import PARTS, Figure, Part, dress, facing_viewer, paint_figure
from train.drawn.pose import LEFT, RIGHT, draw_body
from train.drawn.scene import Drawing, Labelled, empty_scene, photograph, put_in_the_way

HEADS_TALL = 5.0
HEIGHT_PX = (80.0, 300.0)  # of a standing person; COCO's areas medium and large both occur
CROWD_ODDS = (0.40, 0.36, 0.17, 0.07)  # 1 to 4 people
ENOUGH_AREA_PX2, ENOUGH_VISIBLE = 350, 6  # below this a person is drawn anew

# The parts that show each keypoint, as (left, right) pairs for the sided ones.
_SHOWN_BY: dict[str, tuple[Part, ...]] = {
    "shoulder": (Part.UPPER_ARM,), "elbow": (Part.UPPER_ARM, Part.FOREARM), "wrist": (Part.FOREARM,),
    "hip": (Part.THIGH,), "knee": (Part.THIGH, Part.SHIN), "ankle": (Part.SHIN, Part.FOOT)}
ON_TRUNK = (5, 6, 11, 12)


def _shown_by() -> tuple[frozenset[int], ...]:
    """Part numbers that show each of the 17 keypoints, the trunk left aside."""
    head = [frozenset({int(Part.HEAD)})] * 3 + [frozenset({Part.EAR + side}) for side in (LEFT, RIGHT)]
    sided = [frozenset(part + side for part in parts) for parts in _SHOWN_BY.values() for side in (LEFT, RIGHT)]
    return tuple(head + sided)


SHOWN_BY = _shown_by()


def draw_people(rng: np.random.Generator, count: int) -> Drawing:
    """A picture with ``count`` people, each of them recognisable."""
    while True:
        size_wh = (int(rng.integers(320, 361)), int(rng.integers(240, 271)))
        canvas = empty_scene(rng, size_wh)
        figures = sorted(_place(rng, count, size_wh), key=lambda figure: figure.head_px)
        for number, figure in enumerate(figures):
            paint_figure(rng, canvas, figure, number)
            if rng.random() < 0.16:
                near = figure.project(figure.body.keypoints[int(rng.integers(5, 17))])
                put_in_the_way(rng, canvas, near, figure.head_px)
        subjects = tuple(_label(canvas.owner, figure, number) for number, figure in enumerate(figures))
        if all(s.area_px2 >= ENOUGH_AREA_PX2 and (s.visibility == 2).sum() >= ENOUGH_VISIBLE for s in subjects):
            return Drawing(photograph(rng, canvas.pixels), subjects, canvas.owner)


def _place(rng: np.random.Generator, count: int, size_wh: tuple[int, int]) -> list[Figure]:
    """People who do not stand all in one place; the best of a few tries for each."""
    placed: list[Figure] = []
    boxes: list[Float] = []
    for _ in range(count):
        body = draw_body(rng)
        tallest = HEIGHT_PX[1] if count < 3 else HEIGHT_PX[1] * 0.7
        head_px = float(np.exp(rng.uniform(np.log(HEIGHT_PX[0]), np.log(tallest)))) / HEADS_TALL
        outfit = dress(rng, head_px)
        tries = [_put(rng, Figure(body, outfit, head_px, np.zeros(2)), size_wh) for _ in range(8)]
        overlaps = [max((_overlap(_extent(t), other) for other in boxes), default=0.0) for t in tries]
        best = tries[int(np.argmin(np.maximum(overlaps, 0.15)))]
        placed.append(best)
        boxes.append(_extent(best))
    return placed


def _put(rng: np.random.Generator, figure: Figure, size_wh: tuple[int, int]) -> Figure:
    """The figure at a random place: one in ten may be cut by the edge, and so is whoever does not fit."""
    low, high = _extent(figure)
    slack = 0.35 * (high - low) if rng.random() < 0.1 else np.zeros(2)
    room_low, room_high = -low - slack, np.asarray(size_wh) - high + slack
    room_high[1] = max(room_high[1], room_low[1])  # too tall: the head stays in, the feet leave
    room_low[0], room_high[0] = min(room_low[0], room_high[0]), max(room_low[0], room_high[0])
    return Figure(figure.body, figure.outfit, figure.head_px, rng.uniform(room_low, room_high))


def _extent(figure: Figure) -> Float:
    """(2, 2) lowest and highest pixel coordinates, with a margin for flesh."""
    points = figure.project(np.concatenate([figure.body.keypoints, figure.body.hands, figure.body.toes]))
    head = figure.project(figure.body.head)[None] + np.array([[-0.5], [0.5]]) * figure.head_px
    points = np.concatenate([points, head])
    return np.stack([points.min(axis=0) - 0.2 * figure.head_px, points.max(axis=0) + 0.2 * figure.head_px])


def _overlap(first: Float, second: Float) -> float:
    """Shared area as a fraction of the smaller box."""
    shared = np.prod(np.maximum(np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]), 0))
    return float(shared / min(np.prod(first[1] - first[0]), np.prod(second[1] - second[0])))


def _label(owner: Int, figure: Figure, number: int) -> Labelled:
    """Keypoints with their true visibility, and the box and area of the person's own pixels."""
    h, w = owner.shape
    mine = (owner > number * PARTS) & (owner <= (number + 1) * PARTS)
    xy = figure.project(figure.body.keypoints)
    column, row = np.rint(xy).astype(int).T
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    top = owner[np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)].astype(int) - 1 - number * PARTS
    shown = np.array([part in SHOWN_BY[k] for k, part in enumerate(top)])
    behind = figure.body.keypoints[:, 2] - figure.body.chest[2] * (np.arange(17) < 11)
    trunk = np.isin(np.arange(17), ON_TRUNK) & (top == Part.TRUNK) & (behind > -0.4)
    facing = facing_viewer(figure.body)
    shown[:3] &= facing[:3] > (-0.2, 0.1, 0.1)
    visibility = np.where(shown | trunk, 2, 1)
    visibility[:5][facing < (-0.3, -0.25, -0.25, -0.55, -0.55)] = 0  # as in COCO: the back of a head has no nose
    visibility[~inside] = 0
    rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
    if not rows.size:
        return Labelled(xy, visibility * 0, np.zeros(4), 0.0)
    box = np.array([columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], dtype=float)
    return Labelled(np.where(visibility[:, None] > 0, xy, 0.0), visibility, box, float(mine.sum()))
