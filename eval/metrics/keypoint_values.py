"""Values of single keypoints, (N, K), NaN where one cannot be measured, and their means by image.

Every metric but AP is such a mean; the parts of a metric that a verdict tells apart are means over fewer of them.
"""

from __future__ import annotations

import numpy as np

from edgekp.sample import Float, Int
from edgekp.skeletons import Skeleton
from eval.bootstrap import Weighted
from eval.ground_truth import GroundTruth
from eval.results import Scored


def similarity(scored: Scored) -> Float:
    """Each labelled keypoint's part in OKS: ``exp(-d^2 / (2 (2 sigma)^2 area))``, 0 without a prediction."""
    truth = scored.truth
    spread_px2 = (2 * truth.skeleton.sigma_array) ** 2 * (truth.area_px2[:, None] + np.spacing(1))
    return np.where(truth.labelled, np.exp(-scored.error_px**2 / (2 * spread_px2)), np.nan)


def error_px(scored: Scored) -> Float:
    """Each labelled keypoint's distance to the truth; infinite without a prediction."""
    return np.where(scored.truth.labelled, scored.error_px, np.nan)


def weighted_mean(truth: GroundTruth, values: Float) -> Weighted:
    """Mean of (N, K) values as a function of how often each image counts."""
    known = np.isfinite(values)
    means = weighted_means(truth, np.where(known, values, 0.0).sum(1)[:, None], known.sum(1)[:, None])
    return lambda weights: means(weights)[:, 0]


def weighted_means(truth: GroundTruth, total: Float, count: Float | Int) -> Weighted:
    """S means as functions of how often each image counts.

    Args:
        total: (N, S) sum of what an instance brings to each mean.
        count: (N, S) of how many values.
    """
    total_of_images, count_of_images = truth.per_image(total), truth.per_image(count)

    def means(weights: Float) -> Float:
        return np.asarray((weights @ total_of_images) / (weights @ count_of_images))

    return means


def distance_px(truth: GroundTruth, first: list[int], second: list[int]) -> Float:
    """(N,) between the means of two sets of keypoints; NaN where a keypoint is not labelled or the distance is 0."""
    if not first or not second:
        return np.full(len(truth.true_xy), np.nan)
    between = truth.true_xy[:, first].mean(1) - truth.true_xy[:, second].mean(1)
    distance = np.linalg.norm(between, axis=-1)
    return np.where(truth.labelled[:, first + second].all(1) & (distance > 0), distance, np.nan)


def positions(skeleton: Skeleton, *names: str) -> list[int]:
    """Of the keypoints with one of these names; a name that ends in ``_*`` stands for all that begin so."""
    return [k for k, keypoint in enumerate(skeleton.keypoints)
            if any(keypoint == name or (name.endswith("_*") and keypoint.startswith(name[:-1])) for name in names)]
