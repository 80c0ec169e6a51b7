"""Average precision of matched detections: COCO's at 101 recalls, and one of all points that can be resampled.

COCO's reads precision at 101 recalls, which leaves a noise near 0.001 that more images do not remove; the all-point
AP has none, so it is what intervals are made of and what the gate judges.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from edgekp.sample import Bool, Float
from eval.bootstrap import Weighted
from eval.metrics.coco_matching import Matches

RECALLS = np.linspace(0.0, 1.0, 101)
WIDE = 128


def coco_precision(matches: Matches) -> Float:
    """(T,) AP at each threshold: the mean over ``RECALLS`` of the best precision at no less recall.

    Follows pycocotools ``COCOeval.accumulate``.
    """
    found = matches.correct.cumsum(1)
    precision = found / (matches.counted.cumsum(1) + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # 0 where a recall is never reached
    recall = found / matches.persons.sum()
    return np.array([at[np.searchsorted(reached, RECALLS)].mean() for at, reached in zip(best, recall, strict=True)])


def coco_recall(matches: Matches) -> Float:
    """(T,) share of the persons that are found at each threshold."""
    return np.asarray(matches.correct.sum(1) / matches.persons.sum())


def all_point_precision(matches: Matches) -> Weighted:
    """The area under the precision envelope, mean over the thresholds, as a function of how often each image counts.

    Along a run of right detections precision only rises, so at each of them the envelope is that of the run's end:
    one row a run is enough. Exact for weights of float64; for float32 to about six digits, in half the time.
    """
    runs = [_runs(matches, correct, counted)
            for correct, counted in zip(matches.correct, matches.counted, strict=True)]

    def average_precision(weights: Float) -> Float:
        of_images = np.ascontiguousarray(weights.T)  # (I, R)
        area = sum(_area(right @ of_images, seen @ of_images) for right, seen in runs)
        return np.asarray(area / len(runs) / (weights @ matches.persons))

    return average_precision


def _runs(matches: Matches, correct: Bool, counted: Bool) -> tuple[Any, Any]:
    """For one threshold (runs, I) how many detections of an image a run holds that are right, and that count.

    The second includes the wrong ones since the run before.
    """
    image, correct = matches.image[counted], correct[counted]
    ends = np.flatnonzero(correct & ~np.append(correct[1:], False))
    run = np.searchsorted(ends, np.arange(len(correct)))
    shape = (len(ends), len(matches.persons))
    return tuple(sparse.csr_array((np.ones(np.count_nonzero(kept), np.float32), (run[kept], image[kept])), shape=shape)
                 for kept in (correct, run < len(ends)))


def _area(right: Float, seen: Float) -> Float:
    """(R,) area under the envelope of R curves, from the (runs, R) detections of each run; overwrites ``seen``."""
    precision = right.copy()
    _accumulate(np.add, precision)
    _accumulate(np.add, seen)
    precision /= np.maximum(seen, 1, out=seen)
    _accumulate(np.maximum, precision[::-1])
    return np.asarray(np.einsum("ij,ij->j", right, precision, dtype=np.float64))


def _accumulate(function: np.ufunc, rows: Float) -> None:
    """Down the rows, in place. ``accumulate`` jumps from row to row, so wide rows are three times as fast by hand."""
    if rows.shape[1] < WIDE:
        function.accumulate(rows, axis=0, out=rows)
        return
    for before, row in pairwise(rows):
        function(before, row, out=row)
