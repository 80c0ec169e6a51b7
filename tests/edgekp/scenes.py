"""Scenes of several people, drawn by OpenPose's codec and found again: what its tests share."""

from __future__ import annotations

import numpy as np

from edgekp.codecs.openpose import OpenPose
from edgekp.sample import Float, Int
from edgekp.skeletons import OPENPOSE18

CODEC = OpenPose((368, 368))
HALF_ULP = 2.0**-24  # of a float32 just below 1: the rounding error of one operation on these maps
FIGURE = np.array([  # x and y of OpenPose's keypoints, for a person of height 1
    (0, 0), (0, .13), (-.1, .13), (-.14, .3), (-.15, .45), (.1, .13), (.14, .3), (.15, .45), (-.06, .5), (-.07, .75),
    (-.07, .97), (.06, .5), (.07, .75), (.07, .97), (-.02, -.02), (.02, -.02), (-.05, 0), (.05, 0)])


def all_visible(xy: Float) -> Int:
    return np.full(xy.shape[:-1], 2)


def scene(people: int, seed: int) -> Float:
    """(P, 18, 2) figures 180 to 300 pixels tall on an input of 368: five of them cover each other all over.

    No keypoint is nearer than 4 cells to that of another person, nor than 2 to the border: closer ones share cells.
    """
    rng = np.random.default_rng(seed)
    while True:
        xy = rng.uniform(180, 300, (people, 1, 1)) * (FIGURE + rng.normal(0, 0.02, (people, 18, 2)))
        low, high = xy.min(1), xy.max(1)
        xy += (20 - low + rng.uniform(0, 1, (people, 2)) * (327 - (high - low)))[:, None]
        apart = np.linalg.norm(xy[:, None] - xy, axis=-1)[~np.eye(people, dtype=np.bool_)]
        if (apart > 4 * CODEC.stride).all():
            return xy


def maps_of(xy: Float, visibility: Int | None = None) -> dict[str, Float]:
    """The maps of one scene."""
    return CODEC.encode(xy[None], (all_visible(xy) if visibility is None else visibility)[None]).arrays


def decoded(maps: dict[str, Float]) -> tuple[Float, Float]:
    (people,) = CODEC.decode(maps)
    return people


def mirrored_people(xy: Float) -> Float:
    return (xy * [-1, 1] + [CODEC.input_hw[1] - 1, 0])[:, OPENPOSE18.flip_order]


def mirrored(maps: dict[str, Float]) -> dict[str, Float]:
    """Maps of the mirrored picture: left and right change places, and x its sign."""
    order = OPENPOSE18.flip_order.tolist()
    limbs = [OPENPOSE18.limbs.index((order[a], order[b])) for a, b in OPENPOSE18.limbs]
    fields = maps["pafs"].reshape(1, 19, 2, 46, 46)[:, limbs, :, :, ::-1] * np.array([-1, 1], np.float32)[:, None, None]
    return {"heatmaps": maps["heatmaps"][:, [*order, 18], :, ::-1], "pafs": fields.reshape(1, 38, 46, 46)}
