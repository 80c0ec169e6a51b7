"""The AP of the gate: all points, and weights that mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eval.ground_truth import GroundTruth
from eval.metrics.coco_matching import ANY_AREA, match
from eval.metrics.oks_ap import oks_ap_metrics, weighted_ap
from eval.results import Result, lay_beside

N_IMAGES = 12


def all_point_ap(correct: np.ndarray, persons: int) -> float:
    """By hand: at every hit, the best precision from there on."""
    ranks = np.arange(1, len(correct) + 1)
    precision = np.cumsum(correct) / ranks
    return float(sum(precision[rank:].max() for rank in np.flatnonzero(correct)) / persons)


def repeated(times: list[int]) -> Callable[[dict[str, Any]], None]:
    """An edit that lets image i and its persons stand in the file ``times[i]`` times."""
    def change(document: dict[str, Any]) -> None:
        images, annotations = document["images"], document["annotations"]
        copies = [(image, copy) for image, count in zip(images, times, strict=True) for copy in range(count)]
        document["images"] = [image | {"id": 100 * image["id"] + copy} for image, copy in copies]
        document["annotations"] = [
            annotation | {"id": 1000 * annotation["id"] + copy, "image_id": 100 * image["id"] + copy}
            for image, copy in copies for annotation in annotations if annotation["image_id"] == image["id"]]
    return change


def test_all_weights_one_is_the_point_value(toy_truth: Callable[..., GroundTruth],
                                            scattered: Callable[..., list[Result]], rng: np.random.Generator) -> None:
    scored = lay_beside(truth := toy_truth(n_images=N_IMAGES, per_image=3), scattered(truth, rng, 1.0, 0.1))
    (matches,), = match(scored, [ANY_AREA])
    by_hand = np.mean([all_point_ap(row, 3 * N_IMAGES) for row in matches.correct])
    found = weighted_ap(scored)(np.ones((2, N_IMAGES)))
    assert 0.1 < by_hand < 0.9
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)
    assert found[0] == pytest.approx(oks_ap_metrics(scored)["AP"], abs=0.02)  # COCO's 101 recalls, 36 persons


def test_integer_weights_equal_repeated_images(toy_truth: Callable[..., GroundTruth],
                                               scattered: Callable[..., list[Result]],
                                               rng: np.random.Generator) -> None:
    truth = toy_truth(n_images=N_IMAGES, per_image=2)
    results = scattered(truth, rng, 1.0, 0.1)
    times = [2, 0, 1, 3, 1, 1, 0, 2, 1, 0, 4, 1]
    weighted = weighted_ap(lay_beside(truth, results))(np.array([times], dtype=float))[0]

    longer = toy_truth(n_images=N_IMAGES, per_image=2, change=repeated(times))
    of_annotation = {result["annotation_id"]: result for result in results}
    copies = [of_annotation[instance.id // 1000] | {"annotation_id": instance.id, "image_id": instance.image.id}
              for instance in longer.labels.instances]
    counted = weighted_ap(lay_beside(longer, copies))(np.ones((1, sum(times))))[0]
    assert 0.1 < weighted < 0.9
    assert weighted == pytest.approx(counted, abs=1e-12)


def test_a_detection_on_a_crowd_neither_helps_nor_hurts(toy_truth: Callable[..., GroundTruth],
                                                        scattered: Callable[..., list[Result]],
                                                        rng: np.random.Generator) -> None:
    def with_a_crowd(document: dict[str, Any]) -> None:
        document["annotations"].append({"id": 900, "image_id": 1, "category_id": 1, "iscrowd": 1, "area": 4e4,
                                        "bbox": [500, 500, 200, 200], "keypoints": [0] * 51, "num_keypoints": 0})

    truth = toy_truth(n_images=N_IMAGES, change=with_a_crowd)
    results = scattered(truth, rng, 1.0, 0.1)
    once = np.ones((1, N_IMAGES))
    alone = weighted_ap(lay_beside(truth, results))(once)
    in_crowd = {"image_id": 1, "category_id": 1, "annotation_id": 900, "score": 1.0, "keypoints": [600, 600, 1.0] * 17}
    elsewhere = in_crowd | {"keypoints": [-900, -900, 1.0] * 17}
    assert weighted_ap(lay_beside(truth, [*results, in_crowd]))(once) == alone
    assert weighted_ap(lay_beside(truth, [*results, elsewhere]))(once) < alone


def test_an_annotation_with_id_zero_counts_like_any_other(toy_truth: Callable[..., GroundTruth]) -> None:
    """pycocotools takes the id 0 for "not matched"."""
    def from_zero(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            annotation["id"] -= 1

    truth = toy_truth(n_images=N_IMAGES, change=from_zero)
    perfect = [{"image_id": instance.image.id, "category_id": 1, "annotation_id": instance.id, "score": 1.0,
                "keypoints": np.concatenate([instance.keypoints_xy, np.ones((17, 1))], 1).ravel().tolist()}
               for instance in truth.labels.instances]
    assert oks_ap_metrics(lay_beside(truth, perfect))["AP"] == pytest.approx(1.0)


def test_a_model_that_finds_nobody_has_an_ap_of_zero(toy_truth: Callable[..., GroundTruth],
                                                     scattered: Callable[..., list[Result]],
                                                     rng: np.random.Generator) -> None:
    truth = toy_truth(n_images=N_IMAGES)
    for results in (scattered(truth, rng, wrong=1.0), []):
        scored = lay_beside(truth, results)
        assert oks_ap_metrics(scored)["AP"] == oks_ap_metrics(scored)["AP_all_points"] == 0
        assert not weighted_ap(scored)(np.ones((200, N_IMAGES))).any()


def test_weights_of_float32_give_six_digits(toy_truth: Callable[..., GroundTruth],
                                            scattered: Callable[..., list[Result]], rng: np.random.Generator) -> None:
    truth = toy_truth(n_images=80, per_image=3)
    weigh = weighted_ap(lay_beside(truth, scattered(truth, rng, 1.0, 0.1)))
    counts = rng.integers(0, 4, (150, 80))
    exact = weigh(counts.astype(np.float64))
    np.testing.assert_allclose(weigh(counts.astype(np.float32)), exact, rtol=1e-6)
    np.testing.assert_allclose([weigh(row[None].astype(np.float64))[0] for row in counts[:5]], exact[:5], rtol=1e-12)
