"""OKS AP of a set as large as COCO's validation set: ours with its interval, against pycocotools without one."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.timing import compare, in_turn
from edgekp.skeletons import COCO17
from eval.bootstrap import RESAMPLES, resample
from eval.ground_truth import read_ground_truth
from eval.metrics.oks_ap import oks_ap_metrics, weighted_ap
from eval.results import Result, lay_beside

N_IMAGES, N_PERSONS = 2346, 6221  # of COCO val 2017 with keypoints
ROUNDS = 5


def records() -> list[dict[str, Any]]:
    document, results = made_up_set(np.random.default_rng(0))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(document))
        truth = read_ground_truth(path, COCO17)
        with redirect_stdout(io.StringIO()):
            annotated = COCO(str(path))
    scored = lay_beside(truth, results)
    theirs = run_cocoeval(annotated, results)
    np.testing.assert_allclose(oks_ap_metrics(scored)["AP"], theirs.stats[0], rtol=0, atol=1e-10)

    def interval() -> None:
        resample(weighted_ap(scored), len(truth.image_ids))

    def ours_with_interval() -> None:
        oks_ap_metrics(scored)
        interval()

    def plain() -> None:
        run_cocoeval(annotated, results)

    size, pycocotools = f"{N_IMAGES} images, {N_PERSONS} persons", "pycocotools, no interval"
    found = [compare(f"OKS AP with its interval, {size}", ours_with_interval, pycocotools, plain, rounds=ROUNDS),
             compare(f"OKS AP, {size}", lambda: oks_ap_metrics(scored), pycocotools, plain, rounds=ROUNDS)]
    ours_us, theirs_us = in_turn(interval, lambda: accumulate(theirs), ROUNDS)
    return [*found, {"name": f"AP of one of {RESAMPLES} resamples", "ours_us": ours_us / RESAMPLES,
                     "alternative": "COCOeval.accumulate", "alternative_us": theirs_us,
                     "ratio": theirs_us / (ours_us / RESAMPLES)}]


def made_up_set(rng: np.random.Generator) -> tuple[dict[str, Any], list[Result]]:
    """Annotations of persons of all sizes, several an image, and one detection of each with an AP near 0.7."""
    image_of = np.sort(np.concatenate([np.arange(N_IMAGES), rng.integers(0, N_IMAGES, N_PERSONS - N_IMAGES)]))
    side_px = np.exp(rng.normal(np.log(100), 0.7, N_PERSONS)).clip(33, 400)
    corner = rng.uniform(0, 240, (N_PERSONS, 1, 2))
    true_xy = corner + rng.uniform(0, 1, (N_PERSONS, 17, 2)) * side_px[:, None, None]
    visibility = rng.choice([0, 1, 2], (N_PERSONS, 17), p=[0.35, 0.1, 0.55])
    visibility[:, 0] = 2
    quality = rng.lognormal(np.log(0.045), 0.7, N_PERSONS)  # mean error, as a share of the person's size
    found_xy = true_xy + rng.normal(0, 1, true_xy.shape) * (quality * side_px)[:, None, None]
    scores = 1 / (1 + 8 * quality) * rng.uniform(0.7, 1.0, N_PERSONS)
    annotations = [{"id": number + 1, "image_id": int(image), "category_id": 1, "iscrowd": 0, "area": 0.5 * side**2,
                    "bbox": [*corner[number, 0].tolist(), side, side], "num_keypoints": int((visible > 0).sum()),
                    "keypoints": np.column_stack([xy, visible]).ravel().tolist()}
                   for number, (image, side, xy, visible) in enumerate(
                       zip(image_of, side_px.tolist(), true_xy, visibility, strict=True))]
    results = [{"image_id": int(image), "category_id": 1, "annotation_id": number + 1, "score": float(score),
                "keypoints": np.column_stack([xy, np.ones(17)]).ravel().tolist()}
               for number, (image, xy, score) in enumerate(zip(image_of, found_xy, scores, strict=True))]
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 640} for number in range(N_IMAGES)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, results


def run_cocoeval(annotated: COCO, results: list[Result]) -> COCOeval:
    """All that pycocotools does with results in memory."""
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(annotated, annotated.loadRes([dict(result) for result in results]), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def accumulate(evaluation: COCOeval) -> None:
    with redirect_stdout(io.StringIO()):
        evaluation.accumulate()
