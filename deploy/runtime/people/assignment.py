"""Which of the people in one set are which of another: how alike they are, and who is taken for whom.

Knows no time: whoever compares two moments moves the people to the same one first.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.people.people import FEWEST_SURE, People
from deploy.runtime.people.person_box import overlap
from edgekp.sample import Bool, Float, Int
from edgekp.similarity import oks

LEAST_SIGMA = 0.05  # of the longer side: how far people move unforeseen, which for a face is more than annotators err


def keypoint_similarity(first: People, second: People, at: tuple[Int, ...], sigmas: Float) -> tuple[Float, Bool]:
    """OKS of the pairs whose rows ``at`` names, (P,), and (P,) whether enough keypoints are sure in both to say so.

    The scale is the longer side of the box, which does not shrink when a person turns sideways, the mean of both.
    """
    i, j = at
    both = first.sure[i] & second.sure[j]
    enough = both.sum(-1) >= FEWEST_SURE
    side_px = (first.boxes_xywh[i, 2:].max(-1) + second.boxes_xywh[j, 2:].max(-1)) / 2
    counted = np.where(enough[:, None], both, True)  # none in common: any number will do, it is not used
    alike = oks(first.keypoints_xy[i], second.keypoints_xy[j], counted, side_px**2, np.maximum(sigmas, LEAST_SIGMA))
    return alike, enough


def similarity(first: People, second: People, sigmas: Float) -> Float:
    """(N, M), 0 to 1: the mean of OKS and of the boxes' overlap, or the overlap alone where few keypoints are sure.

    People whose boxes do not touch have 0 and cost nothing, so that fifty of them are compared in a millisecond.
    """
    alike = overlap(first.boxes_xywh, second.boxes_xywh)
    at = np.nonzero(alike)
    by_keypoints, enough = keypoint_similarity(first, second, at, sigmas)
    alike[at] = np.where(enough, (alike[at] + by_keypoints) / 2, alike[at])
    return alike


def assign(alike: Float, least: float) -> tuple[Int, Int]:
    """Rows and columns of (N, M) similarities that belong together: the most alike first, none below ``least``.

    Greedy: a pair that is best of all is never given up for the sum. Ties go to the lower row, then the lower column.
    """
    rows, columns = np.nonzero(alike >= least)
    free_rows, free_columns, pairs = set(rows.tolist()), set(columns.tolist()), []
    for place in np.argsort(-alike[rows, columns], kind="stable").tolist():
        row, column = int(rows[place]), int(columns[place])
        if row in free_rows and column in free_columns:
            free_rows.discard(row)
            free_columns.discard(column)
            pairs.append((row, column))
    chosen = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def first_seen(people: People, sigmas: Float, threshold: float) -> Bool:
    """(N,) False for those who are somebody before them seen again: keypoints, not only boxes, lie on each other.

    This is OKS-NMS (``edgekp.nms``) in the order given, and only among people whose boxes touch.
    """
    at = np.nonzero(np.triu(overlap(people.boxes_xywh, people.boxes_xywh), 1))
    alike, enough = keypoint_similarity(people, people, at, sigmas)
    same = enough & (alike > threshold)
    is_first = np.ones(len(people), dtype=np.bool_)
    for earlier, later in zip(at[0][same].tolist(), at[1][same].tolist(), strict=True):
        is_first[later] &= not is_first[earlier]
    return is_first
