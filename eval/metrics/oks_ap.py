"""OKS AP and AR as COCO defines them, the AP of all points, and the mean OKS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekp.sample import Float
from edgekp.similarity import oks
from eval.bootstrap import Weighted
from eval.metrics.average_precision import all_point_precision, coco_precision, coco_recall
from eval.metrics.coco_matching import ANY_AREA, LARGE, MEDIUM, AreaRange, Matches, match
from eval.results import Scored

AT_50, AT_75 = 0, 5  # positions of these thresholds


def oks_ap_metrics(scored: Scored) -> dict[str, float]:
    """COCO's ten keypoint numbers, those undefined left out, the all-point AP and the mean OKS.

    Equal to pycocotools ``COCOeval.summarize``, with the skeleton's sigmas.
    """
    every, medium, large = match(scored, (ANY_AREA, MEDIUM, LARGE))
    metrics: dict[str, float] = {}
    for name, summary in (("AP", coco_precision), ("AR", coco_recall)):
        of_all = _mean_over_categories(summary, every)
        metrics |= {name: float(of_all.mean()), f"{name}50": float(of_all[AT_50]), f"{name}75": float(of_all[AT_75])}
        metrics |= {f"{name}{size}": float(_mean_over_categories(summary, matches).mean())
                    for size, matches in (("m", medium), ("l", large)) if matches}
    once = np.ones((1, len(scored.truth.image_ids)))
    metrics["AP_all_points"] = float(_weighted_mean(every)(once)[0])
    return metrics | {"mean_oks": float(instance_oks(scored).mean())}


def _mean_over_categories(summary: Callable[[Matches], Float], categories: list[Matches]) -> Float:
    """(T,) at each threshold."""
    return np.asarray(np.mean([summary(matches) for matches in categories], axis=0))


def instance_oks(scored: Scored) -> Float:
    """(N,) similarity of each instance to its result, 0 where it has none."""
    truth = scored.truth
    return oks(scored.predicted_xy, truth.true_xy, truth.labelled, truth.area_px2, truth.skeleton.sigma_array)


def weighted_ap(scored: Scored, area_px2: AreaRange = ANY_AREA) -> Weighted:
    """All-point AP of persons in a range of areas, mean over the categories, by how often each image counts."""
    return _weighted_mean(match(scored, [area_px2])[0])


def _weighted_mean(categories: list[Matches]) -> Weighted:
    weighted = [all_point_precision(matches) for matches in categories]

    def average_precision(weights: Float) -> Float:
        return np.asarray(np.mean([weigh(weights) for weigh in weighted], axis=0))

    return average_precision
