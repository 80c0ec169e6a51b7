"""Models that find everybody in whole pictures run in the same loop, without boxes and detectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deploy.runtime.host_estimator import HostEstimator
from deploy.runtime.loop.command import run_on_camera
from deploy.runtime.loop.options import camera_parser
from edgekp.artifact import write_artifact
from edgekp.preprocess import crop_affine, transform
from edgekp.sample import Float
from tests import tiny_scenes

PEOPLE = (2, 0, 3, 1)  # on the frames
CONTRACT = tiny_scenes.contract()


class SaysWhatWasDrawn:
    """A session that gives the targets of known people, frame after frame, whatever it is shown."""

    def __init__(self, frames: list[Float]) -> None:
        self._frames = iter(frames)

    def infer(self, inputs: Float) -> dict[str, Float]:
        assert inputs.shape == (1, 3, *tiny_scenes.INPUT_HW)
        people = next(self._frames)
        whole = np.array([0.0, 0.0, tiny_scenes.IMAGE_HW[1], tiny_scenes.IMAGE_HW[0]])
        in_input = transform(people, crop_affine(whole, tiny_scenes.INPUT_HW, padding=1.0))
        return CONTRACT.encode(in_input[None], np.full((1, len(people), 17), 2), tiny_scenes.INPUT_HW).arrays

    def close(self) -> None:
        pass


def run(frames: list[Float], tmp_path: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    folder, pictures, out = tmp_path / "artifact", tmp_path / "pictures", tmp_path / "out.jsonl"
    folder.mkdir()
    pictures.mkdir()
    (folder / "model.onnx").write_bytes(b"not read here")
    write_artifact(folder, "onnx", CONTRACT, {"file": "model.onnx", "target": "cpu"})
    for number in range(len(frames)):
        cv2.imwrite(str(pictures / f"{number}.png"), np.zeros((*tiny_scenes.IMAGE_HW, 3), np.uint8))
    code = run_on_camera(camera_parser("run", "a test", "cpu"), "cpu", "onnx",
                         lambda artifact, _: HostEstimator(SaysWhatWasDrawn(frames), artifact.contract),
                         ["--artifact", str(folder), "--camera", str(pictures), "--no-window", "--no-smoothing",
                          "--json", str(out), *options])
    return code, [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def test_everybody_on_every_picture_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [tiny_scenes.figures(people, rng) if people else np.empty((0, 17, 2)) for people in PEOPLE]
    code, lines = run(frames, tmp_path)
    assert code == 0
    assert [len(line["people"]) for line in lines] == list(PEOPLE)
    for people, line in zip(frames, lines, strict=True):
        for person in line["people"]:
            keypoints = np.array(person["keypoints"])
            distance_px = np.linalg.norm(keypoints[:, :2] - people, axis=-1)[:, keypoints[:, 2] > 0]
            assert distance_px.max(1).min() < 1.0  # a quarter of a cell of 4 input pixels, each 1.25 of the picture


def test_a_detector_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run([], tmp_path, "--detector", "any.onnx")
    assert code == 2
    assert capsys.readouterr().err
