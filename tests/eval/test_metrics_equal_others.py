"""Our numbers against those of pycocotools and mmpose, and those published beside other people's predictions."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgekp.similarity import oks
from edgekp.skeletons import COCO17, Skeleton
from eval.__main__ import main
from eval.ground_truth import read_ground_truth
from eval.metrics import measure
from eval.metrics.keypoint_values import error_px
from eval.metrics.oks_ap import oks_ap_metrics
from eval.metrics.pck import keypoint_correct
from eval.results import Result, Scored, lay_beside

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


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


def awkward_set(rng: np.random.Generator) -> dict[str, Any]:
    """Two categories, crowds, persons without keypoints, empty images, twins, all sizes: what COCO's rules are for."""
    images = [{"id": 3 * number + 1, "file_name": f"{number}.jpg", "width": 640, "height": 480} for number in range(15)]
    annotations: list[dict[str, Any]] = []
    for image in images[:-2]:
        for _ in range(rng.integers(0, 6)):
            side = float(rng.choice([25.0, 60.0, 96.0, 150.0]))
            corner = rng.uniform(0, 300, 2)
            visibility = rng.integers(0, 3, 17) * (rng.random() > 0.2)
            triplets = np.column_stack([rng.uniform(corner, corner + side, (17, 2)).round(1), visibility])
            annotations.append({
                "image_id": image["id"], "category_id": int(rng.choice([1, 4])), "area": side**2,
                "bbox": [*corner.tolist(), side, side], "iscrowd": int(rng.random() < 0.1),
                "keypoints": triplets.ravel().tolist(), "num_keypoints": int(np.count_nonzero(visibility))})
    annotations += [dict(annotations[0]), dict(annotations[3])]
    for number, annotation in enumerate(annotations):
        annotation["id"] = 7 * number + 1
    categories = [{"id": number, "name": str(number), "keypoints": list(COCO17.keypoints)} for number in (1, 4)]
    return {"images": images, "annotations": annotations, "categories": categories}


def awkward_results(rng: np.random.Generator, document: dict[str, Any], boxed: bool) -> list[Result]:
    """Near misses, doubles, detections of nothing, far more than 20 on one image, and many scores that are equal."""
    results = []
    for annotation in [*document["annotations"], *document["annotations"], *document["annotations"][:3] * 9]:
        triplets = np.reshape(annotation["keypoints"], (17, 3)) + rng.normal(0, rng.uniform(0, 6), (17, 3))
        image = annotation["image_id"] if rng.random() < 0.95 else document["images"][-1]["id"]
        results.append({"image_id": image, "category_id": annotation["category_id"],
                        "keypoints": triplets.ravel().round(2).tolist(), "score": round(float(rng.random()), 1)})
        if boxed:
            results[-1]["bbox"] = [0.0, 0.0, float(rng.uniform(10, 200)), float(rng.uniform(10, 200))]
    return results


def cocoeval_stats(path: Path, results: list[Result]) -> list[float]:
    """What ``COCOeval.summarize`` says."""
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("boxed", [False, True])
def test_ap_and_ar_equal_pycocotools_on_awkward_sets(tmp_path: Path, seed: int, boxed: bool) -> None:
    rng = np.random.default_rng(seed)
    document = awkward_set(rng)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    results = awkward_results(rng, document, boxed)
    theirs = cocoeval_stats(path, results)
    ours = oks_ap_metrics(lay_beside(read_ground_truth(path, COCO17), results))
    assert 0.05 < ours["AP"] < 0.95
    np.testing.assert_allclose([ours[name] for name in STATS], theirs, rtol=0, atol=1e-12)


def scored(folder: Path, true_xy: np.ndarray, predicted_xy: np.ndarray, labelled: np.ndarray,
           head_size_px: np.ndarray) -> Scored:
    """N instances of a K-point skeleton; a head size of 0 stands for none."""
    n, k = labelled.shape
    skeleton = Skeleton("toy", tuple(f"point_{number}" for number in range(k)), (), (), (0.05,) * k)
    triplets = np.concatenate([true_xy, 2.0 * labelled[..., None]], axis=-1).reshape(n, -1)
    annotations: list[dict[str, Any]] = [
        {"id": number, "image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 900,
         "keypoints": entry.tolist()} | ({"head_size_px": float(size)} if size else {})
        for number, (entry, size) in enumerate(zip(triplets, head_size_px, strict=True))]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": [{"id": 0, "file_name": "0.jpg", "width": 9999, "height": 9999}],
                                "annotations": annotations}))
    results = [{"image_id": 0, "category_id": 1, "annotation_id": number, "score": 1.0,
                "keypoints": np.concatenate([xy, np.ones((k, 1))], axis=1).ravel().tolist()}
               for number, xy in enumerate(predicted_xy)]
    return lay_beside(read_ground_truth(path, skeleton), results)


def keypoint_means(values: np.ndarray) -> np.ndarray:
    """Of (N, K) values; -1 where nothing is measured, as mmpose says it."""
    known = np.isfinite(values)
    return np.where(known.any(0), np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1), -1)


def test_pck_of_each_keypoint_is_that_of_mmposes_own_tests(real_data: Path, tmp_path: Path) -> None:
    cases = json.loads((real_data / "fixtures/facts/mmpose_metric_facts.json").read_text())["pck"]
    first = cases[0]
    for case in cases:
        found = scored(tmp_path, np.array(first["target"], float), np.array(first["output"], float),
                       np.array(first["mask"]) > 0, np.array(case["norm"], float)[:, 0])
        if not np.any(case["norm"]):
            assert "pckh@0.5" not in measure(found, ("pck",))
            continue
        of_keypoints = keypoint_means(keypoint_correct(found, "head", first["thr"]))
        np.testing.assert_allclose(of_keypoints, case["expect_acc_per_kpt"])
        assert of_keypoints[of_keypoints >= 0].mean() == case["expect_avg"]


def test_epe_of_mmposes_own_test(real_data: Path, tmp_path: Path) -> None:
    case = json.loads((real_data / "fixtures/facts/mmpose_metric_facts.json").read_text())["epe"]
    found = scored(tmp_path, np.array(case["target"], float), np.array(case["output"], float),
                   np.array(case["mask"]) > 0, np.zeros(1))
    assert measure(found, ("pck",))["epe_px"] == pytest.approx(case["expect"], abs=1e-6)


def test_pck_auc_epe_and_nme_equal_mmpose_on_random_points(real_data: Path, tmp_path: Path) -> None:
    with np.load(real_data / "fixtures/oracle/mmpose_oracle.npz") as oracle:
        theirs = {name.removeprefix("metric/"): oracle[name] for name in oracle.files if name.startswith("metric/")}
    labelled = theirs["mask"]
    found = scored(tmp_path, theirs["gt"], theirs["pred"], labelled, np.full(len(labelled), 80.0))
    of_keypoints = keypoint_means(keypoint_correct(found, "head", 0.1))
    np.testing.assert_allclose(of_keypoints, theirs["pck_thr0.1_norm80_per_kpt"])
    average, count = theirs["pck_avg_cnt"]
    assert of_keypoints[of_keypoints >= 0].mean() == pytest.approx(average)
    assert np.count_nonzero(of_keypoints >= 0) == count
    curve = [keypoint_means(keypoint_correct(found, "head", step / 20)) for step in range(20)]
    assert np.mean([means[means >= 0].mean() for means in curve]) == pytest.approx(float(theirs["auc_norm80_20"]))
    assert measure(found, ("pck",))["epe_px"] == pytest.approx(float(theirs["epe"]), rel=1e-6)  # theirs is float32
    assert np.nanmean(error_px(found)) / 80 == pytest.approx(float(theirs["nme_norm80"]), rel=1e-6)


def test_oks_equals_mmpose_with_its_mean_of_two_areas(real_data: Path) -> None:
    with np.load(real_data / "fixtures/oracle/mmpose_oracle.npz") as oracle:
        true_person, predicted = oracle["oks/g"].reshape(1, 17, 3), oracle["oks/d"].reshape(6, 17, 3)
        area_px2, theirs = (oracle["oks/area_g"] + oracle["oks/area_d"]) / 2, oracle["oks/iou"]
    ours = oks(predicted[..., :2], true_person[..., :2], true_person[..., 2] > 0, area_px2, COCO17.sigma_array)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)  # theirs is float32
