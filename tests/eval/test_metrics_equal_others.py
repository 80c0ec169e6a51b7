"""Our numbers against those of pycocotools, and those published beside other people's predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from edgekp.skeletons import COCO17
from eval.__main__ import main
from eval.similarity import oks


def score(folder: Path, gt: Path, results: Path, *options: str) -> dict[str, float]:
    out = folder / "score.json"
    assert main(["score", "--gt", str(gt), "--results", str(results), "--json", str(out), *options]) == 0
    metrics: dict[str, float] = json.loads(out.read_text())["metrics"]
    return metrics


@pytest.mark.parametrize(("gt", "results", "expected"), [
    ("pose_coco17/val.json", "fixtures/eval_real/simplepose_coco17_val_results.json",
     "fixtures/eval_real/simplepose_coco17_val_expected.json"),
    ("fixtures/cocoapi/reconstructed_gt_val2014_47imgs.json",
     "fixtures/cocoapi/person_keypoints_val2014_fakekeypoints100_results.json", "fixtures/cocoapi/expected.json"),
])
def test_ap_of_published_results(real_data: Path, tmp_path: Path, gt: str, results: str, expected: str) -> None:
    reference = json.loads((real_data / expected).read_text())
    found = score(tmp_path, real_data / gt, real_data / results, "--metric", "oks_ap")
    np.testing.assert_allclose([found[name] for name in reference["names"]], reference["stats"], atol=1e-6)


def test_nme_of_a_published_mobilefacenet(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "fixtures/eval_real"
    reference = json.loads((folder / "mobilefacenet_face_ibug68_val_expected.json").read_text())
    found = score(tmp_path, real_data / "face_ibug68/val.json", folder / "mobilefacenet_face_ibug68_val_preds.json")
    names = {"nme": "NME_interocular_36_45", "nme_interpupil": "NME_interpupil_eyecentres",
             "failure_rate@0.08": "FR_at_0.08", "failure_rate@0.10": "FR_at_0.10",
             "auc@0.08": "AUC_at_0.08_exact_mean_clip"}
    for name, theirs in names.items():
        assert found[name] == pytest.approx(reference[theirs], abs=1e-6), name


def test_oks_equals_pycocotools_to_nine_digits(rng: np.random.Generator) -> None:
    n, k = 50, len(COCO17)
    true_xy, area_px2 = rng.uniform(0, 200, (n, k, 2)), rng.uniform(100, 9000, n)
    predicted_xy = true_xy + rng.normal(0, 8, true_xy.shape)
    visibility = rng.integers(0, 3, (n, k))
    visibility[:, 0] = 2
    ours = oks(predicted_xy, true_xy, visibility > 0, area_px2, COCO17.sigma_array)
    theirs = [coco_oks(predicted_xy[i], true_xy[i], visibility[i], area_px2[i]) for i in range(n)]
    assert 0.05 < ours.mean() < 0.95
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def coco_oks(predicted_xy: np.ndarray, true_xy: np.ndarray, visibility: np.ndarray, area_px2: float) -> float:
    """The similarity that COCOeval computes for one pair, with its own sigmas."""
    def triplets(xy: np.ndarray, third: np.ndarray) -> list[float]:
        return np.concatenate([xy, third[:, None]], axis=1).ravel().tolist()

    evaluation: Any = COCOeval(iouType="keypoints")
    evaluation._gts[1, 1] = [{"keypoints": triplets(true_xy, visibility), "bbox": [0, 0, 9, 9], "area": area_px2}]
    evaluation._dts[1, 1] = [{"keypoints": triplets(predicted_xy, np.ones(len(true_xy))), "score": 1.0}]
    return float(evaluation.computeOks(1, 1)[0, 0])
