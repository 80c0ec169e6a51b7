"""COCO's matching of detections to persons, for all images and thresholds at once. Knows no precision and no recall.

Follows pycocotools ``COCOeval.evaluateImg``: within an image and category the detections choose in the order of
falling score, each the most similar person that is left, or else an ignore region, if it reaches the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekp.sample import Bool, Float, Int
from edgekp.similarity import oks
from eval.ground_truth import Annotations, GroundTruth
from eval.results import Scored

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 20  # the best of each image and category
PAIRS_AT_ONCE = 1 << 12  # so that what is computed of a pair's keypoints stays in the processor's cache

AreaRange = tuple[float, float]  # pixels squared, both ends included
ANY_AREA: AreaRange = (0.0, 1e10)
MEDIUM: AreaRange = (32.0**2, 96.0**2)
LARGE: AreaRange = (96.0**2, 1e10)


@dataclass(frozen=True)
class Detections:
    """What a model found, D in the order of category, image and falling score.

    Attributes:
        group: (D,) number of the image and category that a detection shares with others.
        rank: (D,) 0 for the best of its group.
    """

    keypoints_xy: Float  # (D, K, 2) image pixels
    score: Float
    area_px2: Float
    image: Int
    category_id: Int
    group: Int
    rank: Int


@dataclass(frozen=True)
class Pairs:
    """Detections and annotations of one image and category that are similar enough for some threshold, P in all.

    Attributes:
        detection: (P,) position among the detections.
        annotation: (P,) position among the annotations.
        similarity: (P,) OKS.
    """

    detection: Int
    annotation: Int
    similarity: Float


@dataclass(frozen=True)
class Matches:
    """What one category's D detections, in the order of falling score, were matched to at T thresholds.

    Attributes:
        image: (D,) position of the detection's image among the truth's I images.
        correct: (T, D) True where it is matched to a person that counts.
        counted: (T, D) False where it is matched to what is ignored.
        persons: (I,) how many persons count in each image.
    """

    image: Int
    correct: Bool
    counted: Bool
    persons: Float


def match(scored: Scored, areas_px2: Sequence[AreaRange]) -> list[list[Matches]]:
    """For each range of areas the matches of each category in which a person counts."""
    detections = order_detections(scored)
    pairs = similar_pairs(scored.truth, detections)
    return [_matched(scored.truth, detections, pairs, area_px2) for area_px2 in areas_px2]


def order_detections(scored: Scored) -> Detections:
    """Results as arrays, with those left out that COCO does not look at."""
    truth, results = scored.truth, scored.results
    score = np.array([result["score"] for result in results], dtype=np.float64)
    image = np.searchsorted(truth.image_ids, [result["image_id"] for result in results])
    category_id = np.array([result["category_id"] for result in results], dtype=np.int64)
    group = _groups(truth, image, category_id)
    order = np.lexsort((-score, group))  # stable: ties stay in the order of the results
    _, first, size = np.unique(group[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, size)
    order, rank = order[rank < MAX_DETECTIONS], rank[rank < MAX_DETECTIONS]
    return Detections(scored.triplets[order, :, :2], score[order], _areas_px2(scored)[order], image[order],
                      category_id[order], group[order], rank)


def _groups(truth: GroundTruth, image: Int, category_id: Int) -> Int:
    """A number for each image and category, rising with the category first."""
    return np.searchsorted(truth.category_ids, category_id) * len(truth.image_ids) + image


def _areas_px2(scored: Scored) -> Float:
    """(D,) those of the boxes if all results have one, else what the keypoints span: so does ``COCO.loadRes``."""
    if scored.results and all("bbox" in result for result in scored.results):
        return np.array([result["bbox"][2] * result["bbox"][3] for result in scored.results])
    span = np.ptp(scored.triplets[..., :2], axis=1)
    return np.asarray(span[:, 0] * span[:, 1])


def similar_pairs(truth: GroundTruth, detections: Detections) -> Pairs:
    """All pairs that can become matches, detection by detection."""
    annotations = truth.annotations
    group = _groups(truth, annotations.image, annotations.category_id)
    order = np.argsort(group, kind="stable")
    begin, end = (np.searchsorted(group[order], detections.group, side) for side in ("left", "right"))
    size = end - begin
    detection = np.repeat(np.arange(len(size)), size)
    within = np.arange(len(detection)) - np.repeat(np.cumsum(size) - size, size)
    annotation = order[begin[detection] + within]
    similarity = np.zeros(len(detection))
    for start in range(0, len(detection), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        similarity[some] = _similarity(truth, detections.keypoints_xy[detection[some]], annotation[some])
    kept = similarity >= THRESHOLDS[0]
    return Pairs(detection[kept], annotation[kept], similarity[kept])


def _similarity(truth: GroundTruth, predicted_xy: Float, annotation: Int) -> Float:
    """(P,) OKS; where no keypoint is labelled, of all of them to the nearest point of a box thrice as wide and high."""
    annotations = truth.annotations
    true_xy, labelled = annotations.keypoints_xy[annotation], annotations.labelled[annotation]
    empty = ~labelled.any(1)
    if empty.any():
        x, y, width, height = annotations.bbox_xywh[annotation[empty]].T
        near = np.stack([x - width, y - height], axis=1)[:, None]
        far = np.stack([x + 2 * width, y + 2 * height], axis=1)[:, None]
        true_xy[empty], labelled[empty] = np.clip(predicted_xy[empty], near, far), True
    return oks(predicted_xy, true_xy, labelled, annotations.area_px2[annotation], truth.skeleton.sigma_array)


def _matched(truth: GroundTruth, detections: Detections, pairs: Pairs, area_px2: AreaRange) -> list[Matches]:
    """Persons outside the range of areas are ignored, and so are detections outside that match nobody."""
    annotations = truth.annotations
    ignored = annotations.ignored | _outside(annotations.area_px2, area_px2)
    partner = match_greedily(pairs, detections.rank, ignored, annotations)
    free = partner < 0
    counted = np.where(free, ~_outside(detections.area_px2, area_px2), ~ignored[partner])
    found = []
    for category_id in truth.category_ids:
        persons = annotations.image[~ignored & (annotations.category_id == category_id)]
        if len(persons):
            own = np.flatnonzero(detections.category_id == category_id)
            own = own[np.argsort(-detections.score[own], kind="stable")]  # ties in the order of the images
            found.append(Matches(detections.image[own], ~free[:, own] & counted[:, own], counted[:, own],
                                 np.bincount(persons, minlength=len(truth.image_ids)).astype(np.float64)))
    return found


def _outside(found_px2: Float, area_px2: AreaRange) -> Bool:
    return np.asarray((found_px2 < area_px2[0]) | (found_px2 > area_px2[1]))


def match_greedily(pairs: Pairs, rank: Int, ignored: Bool, annotations: Annotations) -> Int:
    """(T, D) which annotation each detection gets at each threshold, -1 for none.

    Args:
        rank: (D,) who chooses first; those of one rank never compete.
        ignored: (A,) what is chosen only where no other is left; a crowd can be chosen again and again.
    """
    preference = np.lexsort((-pairs.annotation, -pairs.similarity, ignored[pairs.annotation], pairs.detection))
    partner = np.full((len(THRESHOLDS), len(rank)), -1)
    taken = np.zeros((len(THRESHOLDS), len(ignored)), dtype=bool)
    for turn in range(int(rank.max(initial=-1)) + 1):
        of_turn = preference[rank[pairs.detection[preference]] == turn]
        if not len(of_turn):
            continue
        choosing, first = np.unique(pairs.detection[of_turn], return_index=True)
        annotation = pairs.annotation[of_turn]
        possible = (pairs.similarity[of_turn] >= THRESHOLDS[:, None]) & (~taken[:, annotation]
                                                                         | annotations.crowd[annotation])
        place = np.where(possible, np.arange(len(of_turn)), len(of_turn))
        best = np.minimum.reduceat(place, first, axis=1)
        threshold, chooser = np.nonzero(best < len(of_turn))
        chosen = annotation[best[threshold, chooser]]
        partner[threshold, choosing[chooser]] = chosen
        taken[threshold, chosen] = True
    return partner
