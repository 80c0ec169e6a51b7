"""Left and right exchanged: seen from the geometry of each instance, held against the others of the set.

For each flip pair the vector from the right keypoint to the left one is taken. In one person those of trunk and head
agree, seen from the front or from behind; a pair that points against the others is exchanged. Which keypoint is the
left one is known only where the names say so; other pairs are taken the way most of the set has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekp.doctor.dataset import DataSet
from edgekp.doctor.finding import Fault, Finding, at_annotations, at_places, at_set
from edgekp.doctor.sides import side_of
from edgekp.sample import Bool, Float, Int
from edgekp.skeletons import Skeleton

CLEAR_LENGTH = 0.6  # of the pair's median length: shorter ones are profiles and say nothing
AGAINST, ALONG = -0.7, 0.3  # cosine between the vectors of two pairs
FEWEST_AGAINST = 3  # other pairs that contradict one
LARGEST_SUPPORT = 0.1  # pairs that agree with it, of those that contradict
FEWEST_INSTANCES = 5  # that show a pair clearly, before the whole set is judged
FACING = 0.5  # sine of the angle from the line of the eyes to that from the eyes to nose and mouth
ROWS_AT_ONCE = 4096  # instances x pairs x pairs in one array

EXCHANGED = Fault(
    "left-right-instance", "warning", "left and right of a pair are exchanged in an instance",
    why="the network is told both answers for one picture and learns the place between them",
    mend="look at it (--html draws left and right in two colours) and exchange the two keypoints")
EXCHANGED_SET = Fault(
    "left-right-pair", "error", "left and right of a pair are exchanged in most instances",
    why="a mirrored picture exchanges the names back: with flip augmentation the pair is never learnt",
    mend="exchange the two keypoints in all annotations, or their names in the category")
MIRRORED_SET = Fault(
    "left-right-mirrored", "error", "most faces have their left eye where the right one is seen",
    why="left is the person's own left, on the right of the picture when they face the camera; models and sets of "
        "others say the opposite",
    mend="exchange all flip pairs; pictures that were mirrored without exchanging the names look like this")


@dataclass(frozen=True)
class Sides:
    """P flip pairs in N instances.

    Attributes:
        pairs: (P, 2) keypoints, the left one first where the names say which it is.
        named: (P,) True where they do.
        direction: (N, P, 2) unit vectors from right to left.
        clear: (N, P) True where both are labelled and far enough apart.
    """

    pairs: Int
    named: Bool
    direction: Float
    clear: Bool


def check_left_right(data: DataSet) -> Iterator[Finding]:
    """Needs several flip pairs an instance; people seen in profile throughout show nothing."""
    if not data.skeleton.flip_pairs:
        return
    sides = sides_of(data)
    against, along = _votes(sides)
    shares = _shares_exchanged(sides, against, along)
    exchanged = sides.named & (shares > 0.5)
    names = [f"{data.skeleton.keypoints[left]} and {data.skeleton.keypoints[right]}" for left, right in sides.pairs]
    yield from at_places(EXCHANGED_SET, ((data.name, f"{names[pair]} in {shares[pair]:.0%} of the instances")
                                         for pair in np.flatnonzero(exchanged)))
    facing, mirrored = _faces(data)
    is_mirrored_set = facing.sum() >= FEWEST_INSTANCES and mirrored.sum() > facing.sum() / 2 and not exchanged.any()
    yield from at_set(MIRRORED_SET, data, is_mirrored_set, f"{mirrored.sum()} of {facing.sum()} faces")
    lone = _contradicted(sides, against, along) & ~exchanged & ~_free_ends(data.skeleton, sides.pairs)
    faces = mirrored & (not is_mirrored_set) & (not exchanged.any()) & ~lone.any(-1)
    yield from at_annotations(EXCHANGED, data, lone.any(-1) | faces,
                              lambda row: names[lone[row].argmax()] if lone[row].any() else "the eyes of a face")


def sides_of(data: DataSet) -> Sides:
    """Each flip pair's direction in each instance; those without a side in their name follow the others."""
    sides = [(side_of(data.skeleton.keypoints[a]), side_of(data.skeleton.keypoints[b]))
             for a, b in data.skeleton.flip_pairs]
    pairs = np.array([pair[::-1] if side[0] == "right" else pair
                      for pair, side in zip(data.skeleton.flip_pairs, sides, strict=True)], dtype=np.int64)
    named = np.array([set(side) == {"left", "right"} for side in sides], dtype=bool)
    vector = data.keypoints_xy[:, pairs[:, 0]] - data.keypoints_xy[:, pairs[:, 1]]
    length = np.linalg.norm(vector, axis=-1)
    present = data.counts[:, None] & data.labelled[:, pairs].all(-1) & (length > 0)
    relative = np.where(present, length, 0.0) / _scale(data)[:, None]
    clear = present & (relative > CLEAR_LENGTH * _median(relative, present))
    direction = np.where(present[..., None], vector, 0.0) / np.where(present, length, 1.0)[..., None]
    reference = direction[:, named].sum(1) if named.any() else direction[:, 0]
    agreement = np.einsum("npi,ni->np", direction, reference)
    turn = np.where(named | (np.sign(agreement * clear).sum(0) >= 0), 1.0, -1.0)
    return Sides(pairs, named, direction * turn[:, None], clear)


def _scale(data: DataSet) -> Float:
    """(N,) longer side of each instance's box, else of what its labelled keypoints cover; pixels."""
    xy = np.where(data.labelled[..., None], data.keypoints_xy, np.nan)
    low = np.fmin.reduce(xy, axis=1, initial=np.nan)
    extent = np.fmax.reduce(xy, axis=1, initial=np.nan) - low
    scale = np.where(data.has_box[:, None], data.bbox_xywh[:, 2:], extent).max(-1)
    return np.where(scale > 0, scale, 1.0)


def _median(values: Float, present: Bool) -> Float:
    """(P,) median over the instances that show a pair; infinite where none does."""
    ordered = np.sort(np.vstack([np.where(present, values, np.inf), np.full(values.shape[1], np.inf)]), axis=0)
    return np.asarray(ordered[present.sum(0) // 2, np.arange(values.shape[1])])


def _votes(sides: Sides) -> tuple[Int, Int]:
    """How many clear pairs contradict and support each clear pair, (N, P) each."""
    against, along = (np.zeros(sides.clear.shape, dtype=np.int64) for _ in range(2))
    for start in range(0, len(sides.clear), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        direction = sides.direction[rows] * sides.clear[rows, :, None]  # what is not clear has cosine 0 with all
        cosine = np.einsum("npi,nqi->npq", direction, direction)
        against[rows] = (cosine < AGAINST).sum(-1)
        along[rows] = (cosine > ALONG).sum(-1) - sides.clear[rows]
    return against, along


def _contradicted(sides: Sides, against: Int, along: Int) -> Bool:
    """(N, P) True where a pair points against nearly all others that are clear."""
    enough = max(FEWEST_AGAINST, len(sides.pairs) // 3)
    return sides.clear & (against >= enough) & (along <= LARGEST_SUPPORT * against)


def _shares_exchanged(sides: Sides, against: Int, along: Int) -> Float:
    """(P,) share of the instances in which more pairs contradict a pair than support it."""
    shown = sides.clear & (against + along >= 2)
    enough = shown.sum(0) >= FEWEST_INSTANCES
    return np.where(enough, (shown & (against > along)).sum(0) / np.maximum(shown.sum(0), 1), 0.0)


def _free_ends(skeleton: Skeleton, pairs: Int) -> Bool:
    """(P,) True for ends of limbs, such as wrists and ankles, which people cross."""
    ends = np.bincount(np.array(skeleton.limbs, dtype=np.int64).ravel(), minlength=len(skeleton))
    return np.asarray((ends[pairs] == 1).all(-1))


def _faces(data: DataSet) -> tuple[Bool, Bool]:
    """Faces whose eyes, nose and mouth are clearly seen, and those of them that are mirrored; (N,) each."""
    names = data.skeleton.keypoints
    eyes = [(side_of(name), index) for index, name in enumerate(names) if "eye" in name.lower()
            and "brow" not in name.lower()]
    left, right = ([index for side, index in eyes if side == wanted] for wanted in ("left", "right"))
    middle = [index for index, name in enumerate(names) if any(part in name.lower() for part in ("nose", "mouth"))]
    if not (left and right and middle):
        return np.zeros_like(data.counts), np.zeros_like(data.counts)
    (left_xy, has_left), (right_xy, has_right), (middle_xy, has_middle) = (
        _mean(data, part) for part in (left, right, middle))
    across, down = left_xy - right_xy, middle_xy - (left_xy + right_xy) / 2
    lengths = np.linalg.norm(across, axis=-1), np.linalg.norm(down, axis=-1)
    sine = (across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]) / np.maximum(lengths[0] * lengths[1], 1e-9)
    present = data.counts & has_left & has_right & has_middle
    relative = np.where(present, lengths[0] / _scale(data), 0.0)[:, None]
    facing = present & (np.abs(sine) > FACING) & (relative > CLEAR_LENGTH * _median(relative, present[:, None]))[:, 0]
    return facing, facing & (sine < 0)


def _mean(data: DataSet, part: list[int]) -> tuple[Float, Bool]:
    """(N, 2) mean of a part's labelled keypoints, and (N,) whether there is one."""
    labelled = data.labelled[:, part]
    total = np.where(labelled[..., None], data.keypoints_xy[:, part], 0.0).sum(1)
    return total / np.maximum(labelled.sum(-1), 1)[:, None], np.asarray(labelled.any(-1))
