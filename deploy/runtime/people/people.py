"""People as arrays, so that fifty are as quick as one, and how they are read from predictions. Knows no time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.runtime.people.person_box import boxes_around
from edgekp.sample import Bool, Float, Int, Prediction

FEWEST_SURE = 3  # keypoints that make a person, and by which two are compared
SHARE_FOR_A_BOX = 0.25  # of the keypoints; with fewer sure, the box that was looked at says more than they do


@dataclass(frozen=True)
class People:
    """N people.

    Attributes:
        keypoints_xy: (N, K, 2) image pixels, finite.
        sure: (N, K) False for keypoints that are not counted on.
        boxes_xywh: (N, 4) finite, as the network would be shown them.
        scores: (N,) 0 for nobody.
    """

    keypoints_xy: Float
    sure: Bool
    boxes_xywh: Float
    scores: Float

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Int | Bool) -> People:
        return People(self.keypoints_xy[rows], self.sure[rows], self.boxes_xywh[rows], self.scores[rows])

    def join(self, others: People) -> People:
        return People(np.concatenate([self.keypoints_xy, others.keypoints_xy]),
                      np.concatenate([self.sure, others.sure]), np.concatenate([self.boxes_xywh, others.boxes_xywh]),
                      np.concatenate([self.scores, others.scores]))

    def moved(self, by_xy: Float) -> People:
        """The same people, each shifted by its row of (N, 2) pixels."""
        boxes_xywh = np.concatenate([self.boxes_xywh[:, :2] + by_xy, self.boxes_xywh[:, 2:]], 1)
        return People(self.keypoints_xy + by_xy[:, None], self.sure, boxes_xywh, self.scores)


def read_people(predictions: list[Prediction], looked_at_xywh: Float | None, keypoints: int, score: float,
                margin: float) -> People:
    """One row for each of N predictions.

    A person's score is the mean over the better half of the keypoints, and 0 with fewer than three that are sure, so
    that nobody is doubted for being half in view.

    Args:
        looked_at_xywh: (N, 4) boxes that the predictions were made from, None where there are none.
        score: from which a keypoint is sure; one that is not finite never is, nor one with score 0.
        margin: as for ``boxes_around``.
    """
    read_xy = np.array([person.keypoints_xy for person in predictions], dtype=np.float64).reshape(-1, keypoints, 2)
    scores = np.nan_to_num(np.array([person.scores for person in predictions], dtype=np.float64).reshape(-1, keypoints))
    sure = np.isfinite(read_xy).all(-1) & (scores >= score) & (scores > 0)
    keypoints_xy = np.where(sure[..., None], read_xy, 0.0)
    better_half = np.sort(np.where(sure, scores, 0.0), 1)[:, keypoints // 2:].mean(1)
    return People(keypoints_xy, sure, _boxes(keypoints_xy, sure, looked_at_xywh, margin),
                  np.where(sure.sum(1) >= min(FEWEST_SURE, keypoints), better_half, 0.0))


def _boxes(keypoints_xy: Float, sure: Bool, looked_at_xywh: Float | None, margin: float) -> Float:
    """(N, 4) around the keypoints; as looked at where few are sure, and nothing where none is."""
    some = sure.any(1)
    boxes_xywh = np.zeros((len(sure), 4))
    boxes_xywh[some] = boxes_around(keypoints_xy[some], sure[some], margin)
    if looked_at_xywh is None:
        return boxes_xywh
    few = sure.mean(1) < SHARE_FOR_A_BOX
    return np.where(few[:, None], looked_at_xywh, boxes_xywh)
