"""Skeletons: names, limbs, flip pairs and sigmas of the keypoint sets. Knows no image and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.errors import RecipeError, unknown_name
from edgekp.sample import Bool, Float, Int

Pairs = tuple[tuple[int, int], ...]
LOWER_BODY = ("pelvis", "hip", "knee", "ankle", "heel", "foot", "toe")  # in the names of keypoints


@dataclass(frozen=True)
class Skeleton:
    """A keypoint set. Indices are 0-based positions in ``keypoints``.

    Attributes:
        sigmas: spread of human annotators per keypoint, as a fraction of sqrt(area) (COCO's OKS).
        normaliser: the two keypoints whose distance normalises NME, or None where NME is not customary.
        estimated_sigmas: keypoints whose sigma nobody measured; OKS with them compares only with itself.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: Pairs
    flip_pairs: Pairs
    sigmas: tuple[float, ...]
    normaliser: tuple[int, int] | None = None
    estimated_sigmas: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_order(self) -> Int:
        """(K,) order that puts the mirrored keypoints back under their own names."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order

    @property
    def sigma_array(self) -> Float:
        return np.asarray(self.sigmas, dtype=np.float64)

    @property
    def lower_body(self) -> Bool:
        """(K,) True from the hips down; nowhere if the keypoints are of a face or a hand."""
        return np.array([any(part in name for part in LOWER_BODY) for name in self.keypoints])

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        if not self.estimated_sigmas:
            del fields["estimated_sigmas"]  # manifests of the known skeletons stay what they were
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Skeleton:
        pairs = {key: tuple((int(a), int(b)) for a, b in fields[key]) for key in ("limbs", "flip_pairs")}
        normaliser = fields["normaliser"]
        return cls(name=str(fields["name"]), keypoints=tuple(fields["keypoints"]),
                   sigmas=tuple(float(s) for s in fields["sigmas"]),
                   estimated_sigmas=tuple(fields.get("estimated_sigmas", ())),
                   normaliser=(int(normaliser[0]), int(normaliser[1])) if normaliser else None, **pairs)


def skeleton_named(name: str) -> Skeleton:
    """The skeleton of that name, or of that ``.toml`` file; a RecipeError lists the known ones."""
    if name.endswith(".toml"):
        from edgekp.skeleton_file import read_skeleton  # reads this module's table, so it cannot come first

        return read_skeleton(Path(name))
    if name not in SKELETONS:
        raise RecipeError(unknown_name("skeleton", name, list(SKELETONS)))
    return SKELETONS[name]


def skeleton_with(keypoints: Sequence[str]) -> Skeleton | None:
    """The known skeleton with exactly these keypoints, by name and order."""
    return next((skeleton for skeleton in SKELETONS.values() if skeleton.keypoints == tuple(keypoints)), None)


def _chain(first: int, last: int, closed: bool = False) -> Pairs:
    """Limbs that join neighbours from ``first`` to ``last``; a closed chain is an outline."""
    links = tuple((i, i + 1) for i in range(first, last))
    return links + ((last, first),) if closed else links


def _mirrored(first: int, last: int) -> Pairs:
    """Flip pairs of a run of keypoints that is its own mirror image; the middle one stays."""
    return tuple((first + i, last - i) for i in range((last - first + 1) // 2))


# Lin et al., "Microsoft COCO", 2014; sigmas as in pycocotools.
COCO17 = Skeleton(
    name="coco17",
    keypoints=("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
               "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
               "left_knee", "right_knee", "left_ankle", "right_ankle"),
    limbs=((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9),
           (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
)

# Johnson & Everingham, "Clustered Pose", 2010. LSP publishes no sigmas: COCO's for the joints that both have; the
# neck takes the shoulder's and the head top the ear's.
LSP14 = Skeleton(
    name="lsp14",
    keypoints=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist",
               "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
    limbs=((0, 1), (1, 2), (3, 4), (4, 5), (2, 3), (6, 7), (7, 8), (8, 12), (9, 12), (9, 10), (10, 11), (12, 13),
           (2, 8), (3, 9)),
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
    sigmas=(.089, .087, .107, .107, .087, .089, .062, .072, .079, .079, .072, .062, .079, .035),
)

# Andriluka et al., "2D Human Pose Estimation", 2014. MPII publishes no sigmas: COCO's for the joints that both have;
# pelvis, thorax and neck take the hip's and the shoulder's, and the head top the ear's.
MPII16 = Skeleton(
    name="mpii16",
    keypoints=("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
               "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder",
               "left_elbow", "left_wrist"),
    limbs=((0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7),
           (13, 7), (13, 14), (14, 15)),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    sigmas=(.089, .087, .107, .107, .087, .089, .107, .079, .079, .035, .062, .072, .079, .079, .072, .062),
)

# Cao et al., "Part Affinity Fields", 2017: COCO's keypoints in another order, and a neck, which takes the shoulder's
# sigma. The order of the limbs is that of their fields, and each runs from its first keypoint to its second.
OPENPOSE18 = Skeleton(
    name="openpose18",
    keypoints=("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
               "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
               "right_eye", "left_eye", "right_ear", "left_ear"),
    limbs=((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 2), (2, 3), (3, 4), (2, 16), (1, 5), (5, 6),
           (6, 7), (5, 17), (1, 0), (0, 14), (0, 15), (14, 16), (15, 17)),
    flip_pairs=((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17)),
    sigmas=(.026, .079, .079, .072, .062, .079, .072, .062, .107, .087, .089, .107, .087, .089, .025, .025, .035,
            .035),
)

# Sagonas et al., "300 Faces in-the-Wild", 2013 (iBUG mark-up); sigmas of the same 68 points in COCO-WholeBody
# (Jin et al., 2020), where the scale is the area of the whole person.
IBUG68 = Skeleton(
    name="ibug68",
    keypoints=(*(f"jaw_{i}" for i in range(17)), *(f"brow_right_{i}" for i in range(5)),
               *(f"brow_left_{i}" for i in range(5)), *(f"nose_bridge_{i}" for i in range(4)),
               *(f"nose_base_{i}" for i in range(5)), *(f"eye_right_{i}" for i in range(6)),
               *(f"eye_left_{i}" for i in range(6)), *(f"mouth_outer_{i}" for i in range(12)),
               *(f"mouth_inner_{i}" for i in range(8))),
    limbs=(*_chain(0, 16), *_chain(17, 21), *_chain(22, 26), *_chain(27, 30), *_chain(31, 35),
           *_chain(36, 41, closed=True), *_chain(42, 47, closed=True), *_chain(48, 59, closed=True),
           *_chain(60, 67, closed=True)),
    flip_pairs=(*_mirrored(0, 16), *_mirrored(17, 26), *_mirrored(31, 35), (36, 45), (37, 44), (38, 43), (39, 42),
                (40, 47), (41, 46), *_mirrored(48, 54), (55, 59), (56, 58), *_mirrored(60, 64), (65, 67)),
    sigmas=(.042, .043, .044, .043, .040, .035, .031, .025, .020, .023, .029, .032, .037, .038, .043, .041, .045,
            .013, .012, .011, .011, .012, .012, .011, .011, .013, .015, .009, .007, .007, .007, .012, .009, .008,
            .016, .010, .017, .011, .009, .011, .009, .007, .013, .008, .011, .012, .010, .034, .008, .008, .009,
            .008, .008, .007, .010, .008, .009, .009, .009, .007, .007, .008, .011, .008, .008, .008, .010, .008),
    normaliser=(36, 45),
)

# Wu et al., "Look at Boundary", 2018. WFLW publishes no sigmas: the medians of COCO-WholeBody's face sigmas per part.
WFLW98 = Skeleton(
    name="wflw98",
    keypoints=(*(f"jaw_{i}" for i in range(33)), *(f"brow_right_{i}" for i in range(9)),
               *(f"brow_left_{i}" for i in range(9)), *(f"nose_bridge_{i}" for i in range(4)),
               *(f"nose_base_{i}" for i in range(5)), *(f"eye_right_{i}" for i in range(8)),
               *(f"eye_left_{i}" for i in range(8)), *(f"mouth_outer_{i}" for i in range(12)),
               *(f"mouth_inner_{i}" for i in range(8)), "pupil_right", "pupil_left"),
    limbs=(*_chain(0, 32), *_chain(33, 41, closed=True), *_chain(42, 50, closed=True), *_chain(51, 54),
           *_chain(55, 59), *_chain(60, 67, closed=True), *_chain(68, 75, closed=True),
           *_chain(76, 87, closed=True), *_chain(88, 95, closed=True)),
    flip_pairs=(*_mirrored(0, 32), (33, 46), (34, 45), (35, 44), (36, 43), (37, 42), (38, 50), (39, 49), (40, 48),
                (41, 47), *_mirrored(55, 59), (60, 72), (61, 71), (62, 70), (63, 69), (64, 68), (65, 75), (66, 74),
                (67, 73), *_mirrored(76, 82), (83, 87), (84, 86), *_mirrored(88, 92), (93, 95), (96, 97)),
    sigmas=(.037,) * 33 + (.012,) * 18 + (.007,) * 4 + (.010,) * 5 + (.011,) * 16 + (.009,) * 12 + (.008,) * 8
           + (.011,) * 2,
    normaliser=(60, 72),
)

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, LSP14, MPII16, OPENPOSE18, IBUG68, WFLW98)}


def openpose_from_coco(keypoints_xy: Float, visibility: Int) -> tuple[Float, Int]:
    """Keypoints (..., 17, 2) and visibility (..., 17) of COCO as (..., 18, 2) and (..., 18) of OpenPose.

    The neck is the middle of the shoulders and as visible as the less visible of them, so that it is labelled where
    both are.
    """
    shoulders = [COCO17.keypoints.index(f"{side}_shoulder") for side in ("left", "right")]
    with_neck_xy = np.concatenate([keypoints_xy, keypoints_xy[..., shoulders, :].mean(-2, keepdims=True)], -2)
    with_neck = np.concatenate([visibility, visibility[..., shoulders].min(-1, keepdims=True)], -1)
    order = [(*COCO17.keypoints, "neck").index(name) for name in OPENPOSE18.keypoints]
    return with_neck_xy[..., order, :], with_neck[..., order]


def coco_from_openpose(keypoints_xy: Float, scores: Float) -> tuple[Float, Float]:
    """Keypoints (..., 18, 2) and scores (..., 18) of OpenPose as (..., 17, 2) and (..., 17) of COCO, without neck."""
    order = [OPENPOSE18.keypoints.index(name) for name in COCO17.keypoints]
    return keypoints_xy[..., order, :], scores[..., order]
