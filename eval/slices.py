"""Parts of the data that a mean can hide: each keypoint, hidden ones, small persons. What did each of them lose?

Dozens of parts are looked at together, so that one of them may seem worse by chance. Their p-values are Holm's
(1979): the chance that even one healthy part is called worse stays below 5 %, however much the parts depend on each
other, and they do, being means over the same images. (A limit on the share of false alarms, as Benjamini and Hochberg
give, would not do where a single one stops a release.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from edgekp.sample import Bool, Float, Int
from eval.bootstrap import Interval, Resampled, Weighted
from eval.ground_truth import GroundTruth
from eval.metrics import Metric
from eval.metrics.coco_matching import LARGE, MEDIUM, AreaRange
from eval.metrics.keypoint_values import weighted_means
from eval.results import Scored

FEWEST_IMAGES = 20  # a part that fewer images hold is left out: resampling says too little of it
SMALL: AreaRange = (0.0, MEDIUM[0])


@dataclass(frozen=True)
class Sliced:
    """One model on S parts of the data.

    Attributes:
        names: ``left_wrist``, ``hidden``, ``medium``.
        measured: what is measured of each part: ``OKS``, ``AP (all points)``.
        images: (S,) how many images hold something of each part.
        values: (S,) on the images as they are.
        weigh: (R, S) values as a function of how often each image counts.
    """

    names: list[str]
    measured: list[str]
    images: Int
    values: Float
    weigh: Weighted


@dataclass(frozen=True)
class SliceLoss:
    """What a part lost from baseline to candidate.

    Attributes:
        p_loss: how likely so large a loss is by chance; Holm's, among all parts.
        p_over_budget: how likely by chance, if the part lost no more than its budget; Holm's, too.
    """

    name: str
    measured: str
    images: int
    baseline: float
    candidate: float
    loss: Interval
    p_loss: float
    p_over_budget: float

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        loss = fields.pop("loss")
        return fields | {"loss": loss["point"], "loss_lower_95": loss["lower"], "loss_upper_95": loss["upper"]}


def slice_metric(metric: Metric, scored: Scored) -> Sliced:
    """The metric's parts: each keypoint, hidden and visible ones, and sizes."""
    truth = scored.truth
    values, sizes = metric.keypoint_values(scored), sizes_of(truth)
    of_size = {name: within(truth.area_px2, area_px2)[:, None] for name, area_px2 in sizes.items()}
    groups = {"hidden": truth.visibility == 1, "visible": truth.visibility == 2, **of_size}
    known = np.isfinite(values)
    total, count = _columns(np.where(known, values, 0.0), groups), _columns(known, groups)
    images = (truth.per_image(count) > 0).sum(0)
    names = np.array([*truth.skeleton.keypoints, *groups])
    by_area = np.isin(names, list(sizes)) & (metric.weighted_in is not None)
    means, areas = (np.flatnonzero(which & (images >= FEWEST_IMAGES)) for which in (~by_area, by_area))
    weigh_means = weighted_means(truth, total[:, means], count[:, means])
    weigh_areas = [metric.weighted_in(scored, sizes[name]) for name in names[areas]] if metric.weighted_in else []

    def weigh(weights: Float) -> Float:
        return np.concatenate([weigh_means(weights), *(one(weights)[:, None] for one in weigh_areas)], axis=1)

    kept = [*means, *areas]
    return Sliced(names[kept].tolist(), [metric.keypoint_judged] * len(means) + [metric.judged] * len(areas),
                  images[kept], weigh(np.ones((1, len(truth.image_ids))))[0], weigh)


def _columns(values: Float | Bool, groups: dict[str, Bool]) -> Float:
    """(N, K + groups) of (N, K) values: each keypoint, then the sum over each group's keypoints."""
    sums = [np.where(mask, values, 0).sum(1) for mask in groups.values()]
    return np.concatenate([values, np.stack(sums, axis=1)], axis=1)


def sizes_of(truth: GroundTruth) -> dict[str, AreaRange]:
    """COCO's ranges where two of them hold enough instances to tell apart, else thirds."""
    coco = {"small": SMALL, "medium": MEDIUM, "large": LARGE}
    held = [name for name, area_px2 in coco.items()
            if np.count_nonzero(within(truth.area_px2, area_px2)) >= FEWEST_IMAGES]
    if len(held) > 1:
        return {name: coco[name] for name in held}
    first, second = (float(edge) for edge in np.quantile(truth.area_px2, [1 / 3, 2 / 3]))
    if first == second:
        return {}
    return {"smallest third": (0.0, first), "middle third": (first, second), "largest third": (second, LARGE[1])}


def within(found_px2: Float, area_px2: AreaRange) -> Bool:
    return np.asarray((found_px2 >= area_px2[0]) & (found_px2 <= area_px2[1]))


def slice_losses(baseline: Sliced, candidate: Sliced, losses: Resampled, allowed: float) -> list[SliceLoss]:
    """What each part lost, the least likely by chance first.

    Args:
        losses: of the S parts, resampled.
        allowed: the loss that a part may have.
    """
    sound = np.flatnonzero(np.isfinite(losses.values).all(0))  # a part that a baseline has no error in has no rise
    losses = Resampled(losses.point[sound], losses.values[:, sound])
    p_loss, p_over_budget = (holm(_chance(losses, limit, baseline.images[sound])) for limit in (0.0, allowed))
    found = [SliceLoss(baseline.names[part], baseline.measured[part], int(baseline.images[part]),
                       float(baseline.values[part]), float(candidate.values[part]), interval, p_any, p_over)
             for part, interval, p_any, p_over in zip(sound, losses.intervals(), p_loss.tolist(),
                                                      p_over_budget.tolist(), strict=True)]
    return sorted(found, key=lambda part: (part.p_over_budget, part.p_loss, -part.loss.point))


def _chance(losses: Resampled, limit: float, images: Int) -> Float:
    """(S,) one-sided p-values of a loss above ``limit``: Student's, as resamples cannot tell such small ones apart."""
    above, error = losses.point - limit, losses.standard_error()
    return np.where(error > 0, t.sf(above / np.where(error > 0, error, 1.0), images - 1), above <= 0)


def holm(p_values: Float) -> Float:
    """Adjusted p-values of tests that are made together (Holm, 1979): below 0.05 with 5 % for any false one."""
    order = np.argsort(p_values, kind="stable")
    raised = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return adjusted
