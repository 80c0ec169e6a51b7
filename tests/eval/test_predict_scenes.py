"""Models of whole scenes are measured without boxes: what they find is matched, missing and false people cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.artifact import write_artifact
from edgekp.errors import DataError
from edgekp.preprocess import frame_xywh, invert, read_image, transform
from edgekp.recipe import Eval, Gate
from edgekp.sample import Float, Scene
from edgekp.skeletons import COCO17
from eval.__main__ import main
from eval.accuracy_gate import judge_accuracy
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.metrics import measure
from eval.predict_scenes import predict_scenes
from eval.results import Result, lay_beside
from tests import tiny, tiny_scenes

CONTRACT = tiny_scenes.contract()
COUNTS = [1, 2, 3, 1, 2]
Change = Callable[[int, Float, Float], tuple[Float, Float]]


class Oracle:
    """A session that says the targets of the scenes it was made for, in their order."""

    def __init__(self, scenes: tuple[Scene, ...], spoil: Callable[[int, dict[str, Float]], None]) -> None:
        self.left = list(enumerate(scenes))
        self.spoil = spoil

    def infer(self, inputs: Float) -> dict[str, Float]:
        said = [self._maps(*self.left.pop(0)) for _ in inputs]
        return {name: np.concatenate([maps[name] for maps in said]) for name in CONTRACT.outputs}

    def _maps(self, number: int, scene: Scene) -> dict[str, Float]:
        image = read_image(scene.image.path)
        _, input_to_image = CONTRACT.prepare(image, frame_xywh(image))
        xy = transform(np.stack([person.keypoints_xy for person in scene.people]), invert(input_to_image))
        maps = CONTRACT.encode(xy[None], np.full((1, *xy.shape[:2]), 2), CONTRACT.input.input_hw).arrays
        self.spoil(number, maps)
        return maps

    def close(self) -> None:
        pass


def results_of(folder: Path, spoil: Callable[[int, dict[str, Float]], None] = lambda number, maps: None,
               **more: Any) -> tuple[GroundTruth, list[Result]]:
    scenes = tiny_scenes.scenes(folder, COUNTS, **more)
    truth = read_ground_truth(folder / "set.json", COCO17)
    (results,) = predict_scenes(["oracle"], [Oracle(scenes, spoil)], CONTRACT, truth)
    return truth, results


def metrics_of(truth: GroundTruth, results: list[Result]) -> dict[str, float]:
    return measure(lay_beside(truth, results), ("oks_ap",))


def silence(*numbers: int) -> Callable[[int, dict[str, Float]], None]:
    def spoil(number: int, maps: dict[str, Float]) -> None:
        if number in numbers:
            for array in maps.values():
                array[...] = 0
    return spoil


def test_a_network_that_says_the_targets_has_an_ap_of_1(tmp_path: Path) -> None:
    truth, results = results_of(tmp_path)
    assert len(results) == sum(COUNTS)
    assert metrics_of(truth, results)["AP50"] == pytest.approx(1)
    assert metrics_of(truth, results)["mean_oks"] > 0.9  # ears and eyes nearer than a cell share peaks
    assert not any({"annotation_id", "bbox"} & result.keys() for result in results)


def test_people_who_are_not_found_cost_recall(tmp_path: Path) -> None:
    truth, results = results_of(tmp_path, silence(2))  # three of nine
    assert metrics_of(truth, results)["AR50"] == pytest.approx(6 / 9)


def test_an_image_whose_outputs_are_nan_has_nobody_and_is_told(tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(number: int, maps: dict[str, Float]) -> None:
        if number == 1:
            maps["pafs"][0, 3, 0, 0] = np.nan
    truth, results = results_of(tmp_path, spoil)
    assert {result["image_id"] for result in results} == {1, 3, 4, 5}
    assert "eval: oracle: NaN or infinite outputs for 1 of 5 images" in capsys.readouterr().err
    assert len(truth.labels.images) == 5


def test_a_file_of_several_categories_is_refused(tmp_path: Path) -> None:
    other = {**tiny_scenes.annotation(50, 1, tiny_scenes.figures(1, np.random.default_rng(0))[0]), "category_id": 2}
    with pytest.raises(DataError, match=r"categories \[1, 2\], expected one"):
        results_of(tmp_path, others=[other])


@pytest.mark.parametrize(("broken", "outcome", "word"), [
    ((), "pass", "drop 0.0000"), ((0, 1, 2, 3), "fail", "drop"), ((0, 1, 2, 3, 4), "fail", "no finite prediction")])
def test_the_gate_compares_what_two_networks_find(tmp_path: Path, broken: tuple[int, ...], outcome: str,
                                                  word: str) -> None:
    truth, baseline = results_of(tmp_path)
    _, candidate = results_of(tmp_path, silence(*broken))
    verdict = judge_accuracy(truth, baseline, candidate, Eval(), Gate(budget=0.02, resamples=200))
    assert verdict.outcome == outcome
    assert word in verdict.reason


def test_predictions_on_other_images_are_refused(tmp_path: Path) -> None:
    truth, results = results_of(tmp_path)
    strangers = [{**result, "image_id": 99} for result in results]
    verdict = judge_accuracy(truth, results, strangers, Eval())
    assert "candidate: predictions on other images than those of" in verdict.reason


@pytest.mark.slow
def test_the_command_measures_an_exported_scene_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An untrained network: what it finds is chance, and every step of the way is walked."""
    import torch

    from deploy.export.checkpoint_to_artifact import export_checkpoint
    from deploy.export.target import target_named
    from train.models.checkpoint import load_checkpoint, save_checkpoint
    torch.manual_seed(0)
    net, spec, contract = tiny.network(tiny_scenes.recipe())
    checkpoint, exported = tmp_path / "checkpoint", tmp_path / "exported"
    checkpoint.mkdir()
    save_checkpoint(checkpoint, net, spec, contract)
    export_checkpoint(load_checkpoint(checkpoint), exported, target_named("cpu"), opset=17)
    data, out = tiny_scenes.write_scenes(tmp_path, "val", [2, 0, 1]), tmp_path / "metrics.json"
    predictions = tmp_path / "predictions.json"
    assert main(["run", "--artifact", str(exported), "--data", str(data), "--json", str(out),
                 "--predictions", str(predictions)]) == 0
    assert {"AP", "AR", "mean_oks"} <= json.loads(out.read_text())["metrics"].keys()
    found = json.loads(predictions.read_text())
    assert {result["image_id"] for result in found} <= {1, 2, 3}
    assert all(len(result["keypoints"]) == 51 for result in found)
    assert "eval: 1 model(s) on 3 instances" in capsys.readouterr().err
    assert main(["waterfall", "--baseline", str(exported), "--candidate", str(exported), "--data", str(data)]) == 2
    assert "is shown whole images, the waterfall is for models" in capsys.readouterr().err


def test_an_artifact_that_finds_nobody_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    from onnx import TensorProto, helper
    nodes = [helper.make_node("AveragePool", ["input"], ["small"], kernel_shape=[4, 4], strides=[4, 4])]
    nodes += [helper.make_node("Conv", ["small", f"zeros_{name}"], [name]) for name in CONTRACT.outputs]
    channels = {"heatmaps": 19, "pafs": 38}
    zeros = [onnx.numpy_helper.from_array(np.zeros((count, 3, 1, 1), np.float32), f"zeros_{name}")
             for name, count in channels.items()]
    graph = helper.make_graph(
        nodes, "silent", [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 96, 128])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", count, 24, 32])
         for name, count in channels.items()], zeros)
    folder = tmp_path / "silent"
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              folder / "model.onnx")
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx", "precision": "fp32"})
    data = tiny_scenes.write_scenes(tmp_path, "val", [1])
    assert main(["run", "--artifact", str(folder), "--data", str(data)]) == 2
    assert "nothing was found" in capsys.readouterr().err
