"""Results in COCO's keypoint format: read at the door, and laid beside the ground truth instance by instance.

A result is {image_id, category_id, keypoints: [x, y, score] * K, score}. Files of ours add ``annotation_id``
and ``bbox``; files of others may leave out everything but ``image_id`` and ``keypoints``, and the scores in these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from edgekp.errors import DataError
from edgekp.json_file import read_labels
from edgekp.sample import Bool, Float, Prediction
from edgekp.similarity import oks
from eval.ground_truth import GroundTruth

Result = dict[str, Any]
LARGEST_SCORE = 1e300  # JSON has whole numbers that no float can hold


@dataclass(frozen=True)
class Scored:
    """Results beside the truth.

    Attributes:
        predicted_xy: (N, K, 2) image pixels, in the order of the truth's instances; infinite where there is no
            prediction, so that such an instance is wrong in every metric.
    """

    truth: GroundTruth
    results: tuple[Result, ...]
    predicted_xy: Float

    @cached_property
    def triplets(self) -> Float:
        """(D, K, 3) x, y and score of each keypoint of the D results."""
        return np.array([result["keypoints"] for result in self.results]).reshape(-1, len(self.truth.skeleton), 3)

    @property
    def found(self) -> Bool:
        """(N,) True where an instance has a prediction."""
        return np.asarray(np.isfinite(self.predicted_xy).all((1, 2)))

    @cached_property
    def error_px(self) -> Float:
        """(N, K) distance to the truth; meaningless where nothing is labelled."""
        return np.asarray(np.linalg.norm(self.predicted_xy - self.truth.true_xy, axis=-1))


def read_results(path: Path, truth: GroundTruth) -> list[Result]:
    """Results of a file, checked and completed.

    Raises:
        DataError: Missing or broken file, nothing in it, an unknown image, a wrong number of keypoints, NaN.
    """
    document = read_labels(path)
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise DataError(f"{path}: expected a list of results, [{{image_id, category_id, keypoints, score}}]")
    if not document:
        raise DataError(f"{path}: holds no result, expected a list of COCO keypoint results")
    image_ids = {image.id for image in truth.labels.images}
    return [_checked(f"{path}: result {number}", entry, truth, image_ids) for number, entry in enumerate(document)]


def are_named(results: Sequence[Result]) -> bool:
    """Whether each says which annotation it is for; models of whole scenes know of none."""
    return all("annotation_id" in result for result in results)


def lay_beside(truth: GroundTruth, results: list[Result]) -> Scored:
    """Give each measured instance its result: by ``annotation_id``, else those pairs in an image with most OKS."""
    pairs = _pairs_by_name(truth, results) if are_named(results) else _pairs_by_oks(truth, results)
    predicted_xy = np.full_like(truth.true_xy, np.inf, dtype=np.float64)
    if pairs:
        found = [results[number]["keypoints"] for _, number in pairs]
        predicted_xy[[position for position, _ in pairs]] = np.reshape(found, (len(pairs), -1, 3))[..., :2]
    return Scored(truth, tuple(results), predicted_xy)


def as_result(image_id: int, category_id: int, prediction: Prediction) -> Result:
    """Rounded to a thousandth of a pixel, so that a file of results gives the same metrics as the run itself."""
    triplets = np.concatenate([prediction.keypoints_xy.round(3), prediction.scores[:, None].round(6)], axis=1)
    return {"image_id": image_id, "category_id": category_id, "keypoints": triplets.ravel().tolist(),
            "score": round(prediction.score, 6)}


def keypoints_xy(result: Result) -> Float:
    """(K, 2) image pixels."""
    return np.asarray(result["keypoints"], dtype=np.float64).reshape(-1, 3)[:, :2]


def _checked(where: str, entry: Result, truth: GroundTruth, image_ids: set[int]) -> Result:
    if not isinstance(entry.get("image_id"), int) or entry["image_id"] not in image_ids:
        raise DataError(f"{where}: image_id {entry.get('image_id')!r} is not an image of {truth.labels.path}; "
                        "do --gt and --results belong together?")
    triplets = _triplets(where, entry, len(truth.skeleton))
    score = entry.get("score", float(triplets[:, 2].mean()))
    if not isinstance(score, (int, float)) or not abs(score) <= LARGEST_SCORE:
        raise DataError(f"{where}: score {score!r}, expected a finite number")
    category = entry.get("category_id", truth.category_ids[0])
    if category not in truth.category_ids or ("category_id" not in entry and len(truth.category_ids) > 1):
        raise DataError(f"{where}: category_id {entry.get('category_id')!r}, expected one of {truth.category_ids}")
    return {"image_id": entry["image_id"], "category_id": category, "keypoints": triplets.ravel().tolist(),
            "score": float(score), **_extras(where, entry)}


def _extras(where: str, entry: Result) -> Result:
    """The annotation a result is for, and its box, where the file has them."""
    extras: Result = {}
    if entry.get("annotation_id") is not None:
        extras["annotation_id"] = entry["annotation_id"]
        if not isinstance(entry["annotation_id"], int):
            raise DataError(f"{where}: annotation_id {entry['annotation_id']!r}, expected a whole number")
    if entry.get("bbox"):
        try:
            box = np.asarray(entry["bbox"], dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: a value of bbox is no number ({error}); expected four") from error
        if box.shape != (4,) or not np.isfinite(box).all():
            raise DataError(f"{where}: bbox {entry['bbox']}, expected four finite numbers")
        extras["bbox"] = box.tolist()
    return extras


def _triplets(where: str, entry: Result, k: int) -> Float:
    """(K, 3) x, y, score; positions without scores get 1."""
    try:
        values = np.asarray(entry.get("keypoints"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: a keypoint value is no number ({error}); expected numbers only") from error
    if values.shape not in ((3 * k,), (2 * k,)):
        raise DataError(f"{where}: {values.size} keypoint values, expected {k} x [x, y, score] or {k} x [x, y]")
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a keypoint value is NaN or infinite, expected numbers")
    if values.size == 3 * k:
        return values.reshape(k, 3)
    return np.concatenate([values.reshape(k, 2), np.ones((k, 1))], axis=1)


def _pairs_by_name(truth: GroundTruth, results: list[Result]) -> list[tuple[int, int]]:
    """(instance, result) positions; results for crowds and unlabelled persons have no partner."""
    position_of = {instance.id: position for position, instance in enumerate(truth.labels.instances)}
    seen: set[int] = set()
    for result in results:
        name = result["annotation_id"]
        if name not in truth.category_of:
            raise DataError(f"{truth.labels.path}: has no annotation {name!r}, which the results name; "
                            "do --gt and --results belong together?")
        if name in seen:
            raise DataError(f"results: annotation_id {name} occurs twice; one result an instance")
        seen.add(name)
        if name in position_of and result["image_id"] != truth.labels.instances[position_of[name]].image.id:
            raise DataError(f"results: image_id {result['image_id']} for annotation {name}, which is on image "
                            f"{truth.labels.instances[position_of[name]].image.id} of {truth.labels.path}; "
                            "leave annotation_id out")
    return [(position_of[result["annotation_id"]], number) for number, result in enumerate(results)
            if result["annotation_id"] in position_of]


def _pairs_by_oks(truth: GroundTruth, results: list[Result]) -> list[tuple[int, int]]:
    in_image: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, result in enumerate(results):
        in_image[result["image_id"], result["category_id"]].append(number)
    of_image: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, instance in enumerate(truth.labels.instances):
        of_image[instance.image.id, truth.category_of[instance.id]].append(position)
    pairs = []
    for image, positions in of_image.items():
        numbers = in_image[image]
        if numbers:
            predicted_xy = np.stack([keypoints_xy(results[number]) for number in numbers])
            similarity = oks(predicted_xy[None], truth.true_xy[positions, None], truth.labelled[positions, None],
                             truth.area_px2[positions, None], truth.skeleton.sigma_array)
            rows, columns = linear_sum_assignment(similarity, maximize=True)
            pairs += [(positions[row], numbers[column]) for row, column in zip(rows, columns, strict=True)]
    return pairs
