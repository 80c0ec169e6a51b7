"""Reading results of others at the door, and finding which instance each is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.errors import DataError
from eval.ground_truth import GroundTruth, skeleton_of
from eval.results import Result, lay_beside, read_results

GOOD = {"image_id": 1, "category_id": 1, "keypoints": [20.0, 20.0, 0.5] * 17, "score": 0.5}


@pytest.mark.parametrize(("content", "problem"), [
    ([], "holds no result"),
    ({"results": [GOOD]}, "expected a list of results"),
    ([GOOD | {"image_id": 77}], "image_id 77 is not an image"),
    ([GOOD | {"image_id": [1]}], "is not an image"),
    ([GOOD | {"category_id": 9}], "category_id 9, expected one of"),
    ([GOOD | {"keypoints": [1.0] * 50}], "50 keypoint values, expected 17 x"),
    ([GOOD | {"keypoints": [float("nan"), *[1.0] * 50]}], "NaN or infinite"),
    ([GOOD | {"keypoints": ["here", *[1.0] * 50]}], "is no number"),
    ([GOOD | {"keypoints": None}], "keypoint value"),
    ([GOOD | {"score": float("nan")}], "score nan"),
    ([GOOD | {"score": "high"}], "score 'high'"),
    ([GOOD | {"bbox": [1, 2, 3]}], "expected four finite numbers"),
    ([GOOD | {"bbox": [10**400, 2, 3, 4]}], "a value of bbox is no number"),
    ([GOOD | {"keypoints": [10**400, *[1.0] * 50]}], "a keypoint value is no number"),
    ([GOOD | {"score": 10**400}], "expected a finite number"),
])
def test_unusable_results_are_refused_with_place_and_reason(toy_truth: Callable[..., GroundTruth], tmp_path: Path,
                                                            content: Any, problem: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=problem) as caught:
        read_results(path, toy_truth(n_images=2))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_positions_without_scores_are_completed(toy_truth: Callable[..., GroundTruth], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 1, "keypoints": [3.0, 4.0] * 17},
                                {"image_id": 2, "keypoints": [3.0, 4.0, 0.25] * 17}]))
    first, second = read_results(path, toy_truth(n_images=2))
    assert first == {"image_id": 1, "category_id": 1, "keypoints": [3.0, 4.0, 1.0] * 17, "score": 1.0}
    assert second["score"] == 0.25


def test_results_without_names_find_their_instances(toy_truth: Callable[..., GroundTruth],
                                                    scattered: Callable[..., list[Result]],
                                                    rng: np.random.Generator) -> None:
    def apart(document: dict[str, Any]) -> None:
        for number, annotation in enumerate(document["annotations"]):
            annotation["keypoints"][0::3] = [x + 12 * (number % 3) for x in annotation["keypoints"][0::3]]

    truth = toy_truth(n_images=5, per_image=3, change=apart)
    named = scattered(truth, rng)
    nameless = [{key: value for key, value in result.items() if key != "annotation_id"} for result in named]
    rng.shuffle(nameless)
    np.testing.assert_array_equal(lay_beside(truth, nameless).predicted_xy, lay_beside(truth, named).predicted_xy)


def test_one_annotation_has_one_result(toy_truth: Callable[..., GroundTruth]) -> None:
    truth = toy_truth(n_images=2)
    with pytest.raises(DataError, match="annotation_id 1 occurs twice"):
        lay_beside(truth, [GOOD | {"annotation_id": 1}] * 2)
    with pytest.raises(DataError, match="no annotation 5"):
        lay_beside(truth, [GOOD | {"annotation_id": 5}])
    with pytest.raises(DataError, match="image_id 1 for annotation 2, which is on image 2"):
        lay_beside(truth, [GOOD | {"annotation_id": 2}])


def test_the_skeleton_is_known_by_names_or_number(toy_truth: Callable[..., GroundTruth], tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    by_name = toy_truth("lsp14", n_images=2).labels.path
    assert skeleton_of(by_name, None).name == "lsp14"
    assert capsys.readouterr().err == ""
    document = json.loads(by_name.read_text())
    document["categories"] = []
    by_number = tmp_path / "nameless.json"
    by_number.write_text(json.dumps(document))
    assert skeleton_of(by_number, None).name == "lsp14"
    assert "by its number of keypoints" in capsys.readouterr().err
    document["annotations"] = [{"keypoints": [0] * 15}]
    by_number.write_text(json.dumps(document))
    with pytest.raises(DataError, match="5 keypoints; known skeletons: coco17 \\(17\\)"):
        skeleton_of(by_number, None)
