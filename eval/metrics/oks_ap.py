"""OKS AP through pycocotools, and the same matches as an all-point AP that can be resampled by image.

COCO's AP reads precision at 101 recalls, which leaves a noise near 0.001 that more images do not remove; the
all-point AP has none, so the gate judges it and COCO's stands beside it.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgekp.sample import Bool, Float, Int
from eval.bootstrap import Weighted
from eval.ground_truth import GroundTruth
from eval.results import Result, Scored
from eval.similarity import oks

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
UNDEFINED = -1.0  # pycocotools' value where no instance has the size that is asked for
CELLS_AT_ONCE = 1 << 21  # resamples x detections in one array, so that memory stays in the tens of megabytes


def oks_ap_metrics(scored: Scored) -> dict[str, float]:
    """COCO's ten keypoint numbers, those undefined left out, and the mean OKS of the measured instances."""
    evaluation = run_cocoeval(scored.truth, scored.results)
    with redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    stats = {name: float(value) for name, value in zip(STATS, evaluation.stats, strict=True) if value != UNDEFINED}
    return stats | {"mean_oks": float(instance_oks(scored).mean())}


def instance_oks(scored: Scored) -> Float:
    """(N,) similarity of each instance to its result, 0 where it has none."""
    truth = scored.truth
    return oks(scored.predicted_xy, truth.true_xy, truth.labelled, truth.area_px2, truth.skeleton.sigma_array)


def run_cocoeval(truth: GroundTruth, results: tuple[Result, ...]) -> Any:
    """A COCOeval that has matched the results, with the skeleton's sigmas."""
    with redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {"images": [{"id": image.id} for image in truth.labels.images],
                             "categories": [{"id": category} for category in truth.category_ids],
                             "annotations": [dict(annotation) for annotation in truth.annotations]}
        annotated.createIndex()
        evaluation = COCOeval(annotated, annotated.loadRes(_as_loadres_reads(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = truth.skeleton.sigma_array
        evaluation.evaluate()
    return evaluation


def _as_loadres_reads(results: tuple[Result, ...]) -> list[Result]:
    """Copies that pycocotools may write into; it reads ``bbox`` of all results if the first has one."""
    boxed = all("bbox" in result for result in results)
    return [{key: value for key, value in result.items() if boxed or key != "bbox"} for result in results]


@dataclass(frozen=True)
class Matches:
    """What one category's detections, D in the order of falling score, were matched to at T thresholds.

    Attributes:
        image: (D,) position of the detection's image among the truth's I images.
        correct: (T, D) True where it is matched to a person that counts.
        counted: (T, D) False where it is matched to an ignore region.
        persons: (I,) how many persons count in each image.
    """

    image: Int
    correct: Bool
    counted: Bool
    persons: Float

    def average_precision(self, weights: Float) -> Float:
        """(R,) all-point AP, mean over the thresholds, as if each image stood there as often as (R, I) weights say."""
        rows = max(1, CELLS_AT_ONCE // max(1, len(self.image)))
        return np.concatenate([self._of_few(weights[start:start + rows]) for start in range(0, len(weights), rows)])

    def _of_few(self, weights: Float) -> Float:
        weight = weights[:, self.image]
        area = np.zeros(len(weights))
        for t, correct in enumerate(self.correct):
            if t == 0 or not np.array_equal(self.counted[t], self.counted[t - 1]):
                so_far = (weight * self.counted[t]).cumsum(1)
            steps = weight[:, correct]
            precision = steps.cumsum(1) / np.maximum(so_far[:, correct], 1)
            envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            area += (steps * envelope).sum(1)
        return area / len(self.correct) / (weights @ self.persons)


def weighted_ap(scored: Scored) -> Weighted:
    """All-point OKS AP, mean over the categories, as a function of how often each image counts."""
    matches = match(scored)

    def average_precision(weights: Float) -> Float:
        return np.asarray(np.mean([entry.average_precision(weights) for entry in matches], axis=0))

    return average_precision


def match(scored: Scored) -> list[Matches]:
    """The matches of each category, for persons of every size."""
    evaluation = run_cocoeval(scored.truth, scored.results)
    n_images, n_areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    blocks = range(0, len(evaluation.evalImgs), n_images * n_areas)  # one a category; "all" is its first area range
    known = set(scored.truth.image_ids.tolist())  # images without a person that counts have no part in the resampling
    categories = [[entry for entry in evaluation.evalImgs[start:start + n_images]
                   if entry is not None and entry["image_id"] in known] for start in blocks]
    return [_matches_of(images, scored.truth.image_ids) for images in categories
            if any((entry["gtIgnore"] == 0).any() for entry in images)]


def _matches_of(images: list[dict[str, Any]], image_ids: Int) -> Matches:
    """The matches of one category, from COCOeval's records of its images."""
    at = np.searchsorted(image_ids, [entry["image_id"] for entry in images])
    score = np.concatenate([entry["dtScores"] for entry in images])
    order = np.argsort(-score, kind="stable")  # ties in the order of the images, as pycocotools breaks them
    ignored = np.concatenate([entry["dtIgnore"] for entry in images], axis=1)[:, order].astype(bool)
    matched = np.concatenate([entry["dtMatches"] for entry in images], axis=1)[:, order] > 0
    persons = np.bincount(at, [np.count_nonzero(entry["gtIgnore"] == 0) for entry in images], len(image_ids))
    image = np.repeat(at, [len(entry["dtScores"]) for entry in images])[order]
    return Matches(image, matched & ~ignored, ~ignored, persons.astype(np.float64))
