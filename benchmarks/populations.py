"""Two models on people or faces that can be drawn anew as often as one likes, with a true difference that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import brentq

from edgekp.json_file import read_labels
from edgekp.recipe import Eval
from edgekp.sample import Float, Int
from edgekp.skeletons import COCO17, IBUG68, Skeleton
from eval.bootstrap import Weighted
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.metrics import Metric, metric_chosen
from eval.metrics.average_precision import all_point_precision
from eval.metrics.coco_matching import THRESHOLDS, Matches
from eval.results import Result, Scored, lay_beside, read_results


@dataclass(frozen=True)
class Drawn:
    """One set of images: both models on it, as functions of how often each of its images counts."""

    first: Weighted
    second: Weighted
    n_images: int


@dataclass(frozen=True)
class Population:
    """Where sets are drawn from.

    Attributes:
        baseline: the first model's value on all of it.
        loss: what the second model loses on all of it.
        draw: a set of about so many instances.
    """

    name: str
    metric: Metric
    baseline: float
    loss: float
    draw: Callable[[np.random.Generator, int], Drawn]


PERSONS_AN_IMAGE = 2.7  # in COCO
CALIBRATION_IMAGES = 60_000  # so that the true loss is known to 0.0004


@cache
def made_up_people(loss: float, calibration_images: int = CALIBRATION_IMAGES) -> Population:
    """People whose OKS scatters by image and by person, and a second model that is a little off from the first.

    The first has an AP of 0.64; the 95 % interval of the difference is 0.013 wide at 500 persons, as was measured of
    quantized models.
    """
    once = np.ones((1, calibration_images))

    def values_at(damage: float) -> tuple[float, float]:
        drawn = _draw_people(np.random.default_rng(0), calibration_images, damage)
        return float(drawn.first(once)[0]), float(drawn.second(once)[0])

    damage = float(brentq(lambda tried: np.subtract(*values_at(tried)) - loss, -0.1, 0.3, xtol=1e-3))
    before, after = values_at(damage)
    return Population("made-up people", metric_chosen(Eval()), before, before - after,
                      lambda rng, n: _draw_people(rng, round(n / PERSONS_AN_IMAGE), damage))


def _draw_people(rng: np.random.Generator, n_images: int, damage: float) -> Drawn:
    persons = 1 + rng.poisson(PERSONS_AN_IMAGE - 1, n_images)
    image = np.repeat(np.arange(n_images), persons)
    difficulty = 0.4 * rng.normal(size=n_images)[image] + 0.92 * rng.normal(size=len(image))
    log_error = -1.9 + 1.1 * difficulty
    score = 0.8 * rng.normal(size=len(image)) - log_error
    changed_error = log_error + damage + 0.17 * rng.normal(size=len(image))
    changed_score = score + 0.1 * rng.normal(size=len(image))
    first = _matched(image, np.exp(-np.exp(log_error)), score, persons)
    second = _matched(image, np.exp(-np.exp(changed_error)), changed_score, persons)
    return Drawn(all_point_precision(first), all_point_precision(second), n_images)


def _matched(image: Int, oks: Float, score: Float, persons: Int) -> Matches:
    """One detection a person, right wherever its OKS reaches the threshold."""
    order = np.argsort(-score, kind="stable")
    correct = oks[order] >= THRESHOLDS[:, None]
    return Matches(image[order], correct, np.ones_like(correct), persons.astype(np.float64))


@dataclass(frozen=True)
class RealSet:
    """Labels and what a model of others predicted for them, both relative to the data folder."""

    name: str
    labels: str
    predictions: str
    skeleton: Skeleton
    choice: Eval


REAL_SETS = (
    RealSet("76 images of COCO", "pose_coco17/val.json", "fixtures/eval_real/simplepose_coco17_val_results.json",
            COCO17, Eval()),
    RealSet("176 faces of HELEN and AFW", "face_ibug68/val.json",
            "fixtures/eval_real/mobilefacenet_face_ibug68_val_preds.json", IBUG68, Eval(metric="nme")))
TYPICAL_LOSS = 0.02  # of two models that change places
NOISE_SEED = 4


def real_models(data: Path, real: RealSet, loss: float) -> tuple[Scored, Scored]:
    """A model of others, and the same one with as much noise on its keypoints as loses that much.

    Without a loss, every image is there twice, and in its copy the models change places: so no part of the data, large
    or small, has lost anything.
    """
    metric, truth = metric_chosen(real.choice), read_ground_truth(data / real.labels, real.skeleton)
    results = read_results(data / real.predictions, truth)
    first, once = lay_beside(truth, results), np.ones((1, len(truth.image_ids)))

    def lost(amount: float) -> float:
        noisy = lay_beside(truth, _moved(results, len(real.skeleton), amount))
        return float(metric.loss(metric.weighted(first)(once), metric.weighted(noisy)(once))[0])

    amount = float(brentq(lambda tried: lost(tried) - (loss or TYPICAL_LOSS), 0.0, 0.2, xtol=1e-5))
    second = _moved(results, len(real.skeleton), amount)
    return (first, lay_beside(truth, second)) if loss else _changing_places(data / real.labels, real, results, second)


def _moved(results: list[Result], k: int, amount: float) -> list[Result]:
    """Every keypoint by ``amount`` of its person's size, for each amount in the same direction; scores by a little."""
    rng = np.random.default_rng(NOISE_SEED)
    triplets = np.array([result["keypoints"] for result in results]).reshape(-1, k, 3)
    size_px = np.sqrt(np.ptp(triplets[..., :2], axis=1).prod(1))
    triplets[..., :2] += amount * size_px[:, None, None] * rng.normal(size=(len(results), k, 2))
    scores = [result["score"] + 0.01 * rng.normal() for result in results]
    return [result | {"keypoints": moved.ravel().tolist(), "score": score}
            for result, moved, score in zip(results, triplets, scores, strict=True)]


def _changing_places(labels: Path, real: RealSet, first: list[Result], second: list[Result]) -> tuple[Scored, Scored]:
    document = read_labels(labels)
    beyond = 1 + max(entry["id"] for section in ("images", "annotations") for entry in document[section])

    def with_copies(entries: list[dict[str, Any]], others: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
        return [*entries, *(entry | {name: entry[name] + beyond for name in names} for entry in others)]

    doubled = {"images": with_copies(document["images"], document["images"], "id"),
               "annotations": with_copies(document["annotations"], document["annotations"], "id", "image_id")}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "doubled.json"
        path.write_text(json.dumps(doubled))
        truth = read_ground_truth(path, real.skeleton)
    return (lay_beside(truth, with_copies(first, second, "image_id")),
            lay_beside(truth, with_copies(second, first, "image_id")))


def real_images(data: Path, real: RealSet, loss: float) -> Population:
    """Images drawn with replacement from a real set."""
    metric, (first, second) = metric_chosen(real.choice), real_models(data, real, loss)
    weigh, weigh_second = metric.weighted(first), metric.weighted(second)
    once = np.ones((1, len(first.truth.image_ids)))
    return Population(real.name, metric, float(weigh(once)[0]), float(metric.loss(weigh(once), weigh_second(once))[0]),
                      lambda rng, n: draw_images(rng, first.truth, n, weigh, weigh_second))


def draw_images(rng: np.random.Generator, truth: GroundTruth, n: int, first: Weighted, second: Weighted) -> Drawn:
    """About ``n`` instances, image by image, with replacement."""
    images = np.unique(truth.image_index)
    n_images = round(n * len(images) / len(truth.image_index))
    chosen = rng.choice(images, n_images)
    shape = (len(truth.image_ids), n_images)
    counted = sparse.csr_array((np.ones(n_images, np.float32), (chosen, np.arange(n_images))), shape=shape)

    def on_drawn(weigh: Weighted) -> Weighted:
        return lambda weights: weigh((counted @ weights.T).T)

    return Drawn(on_drawn(first), on_drawn(second), n_images)
