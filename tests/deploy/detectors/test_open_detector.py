"""Files that are refused, in one line each; inputs of any size; and the runtime where ONNX Runtime is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from deploy.runtime.detectors import detector as detector_module
from deploy.runtime.detectors import open_detector
from deploy.runtime.detectors.letterbox import input_size
from edgekp.errors import ArtifactError
from edgekp.sample import Image
from tests.deploy.detectors.blob_detector import write_blob_detector
from tests.deploy.detectors.encoders import Arrays, cells, encoded, write_constant

NOTHING: Arrays = {"output0": np.zeros((1, 5, len(cells((96, 96)))))}
Rng = np.random.Generator


def pictured(*boxes_xywh: tuple[int, int, int, int]) -> Image:
    """Bright boxes on a dark picture."""
    picture = np.full((240, 320, 3), 50, np.uint8)
    for x, y, w, h in boxes_xywh:
        picture[y:y + h, x:x + w] = 240
    return picture


@pytest.fixture
def without_onnxruntime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, and where a file is tried first."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "onnxruntime.py").write_text("raise ModuleNotFoundError")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "deploy.runtime.onnx_session", raising=False)


@pytest.mark.parametrize(("make", "found"), [
    (lambda path: path.write_bytes(b"no model"), "does not read as an ONNX model"),
    (lambda path: path.write_bytes(b""), "no graph in it"),
    (lambda path: path.mkdir(), "cannot read the detector"),
    (os.mkfifo, "cannot read the detector"),
    (lambda path: path.symlink_to("/dev/zero"), "cannot read the detector"),
    (lambda path: None, r"cannot read the detector \(No such file"),
    (lambda path: write_constant(path, NOTHING, (96, 96), batch=4), r"input \[4, 3, 96, 96\].*expected one float32"),
    (lambda path: write_constant(path, NOTHING, (96, 96), inputs=2), r"input1 \[1, 3, 96, 96\].*expected one float32"),
    (lambda path: write_constant(path, NOTHING, (96, 96), input_type=TensorProto.UINT8), "of type 2.*one float32"),
    (lambda path: write_constant(path, NOTHING, (96, 100000)), "at most 4096 pixels"),
    (lambda path: write_constant(path, {}, (96, 96)), "0 outputs; expected"),
    (lambda path: write_constant(path, {"logits": np.zeros((1, 9))}, (96, 96)), r"logits \[1, 9\].*no layout has; "),
    (lambda path: write_blob_detector(path).write_bytes(path.read_bytes()[:-20000]), "does not read as an ONNX model"),
])
def test_a_file_that_is_no_detector_is_refused_by_name(make: Callable[[Path], Any], found: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(ArtifactError, match=found) as refused:
        open_detector(path)
    assert str(path) in str(refused.value)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # takes no disk
    monkeypatch.setattr(detector_module, "survive", lambda *_: pytest.fail("was read"))
    with pytest.raises(ArtifactError, match=r"cannot read the detector \(3072 MB, at most 1024 MB are read"):
        open_detector(path)


def test_an_unknown_layout_is_refused_with_the_nearest() -> None:
    with pytest.raises(ArtifactError, match="did you mean 'yolox'"):
        open_detector(Path("model.onnx"), layout="yoloxx")


def test_a_class_that_is_not_there_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = write_constant(tmp_path / "model.onnx", NOTHING, (96, 96))
    with pytest.raises(ArtifactError, match=r"model.onnx: no class 7; this detector has 1, expected 0 to 0"):
        open_detector(path, class_id=7)


@pytest.mark.parametrize("layout", ["yolov8", "yolox"])
def test_opencv_finds_what_onnx_runtime_finds(layout: str, tmp_path: Path, without_onnxruntime: None) -> None:
    path = write_blob_detector(tmp_path / "blob.onnx", layout=layout)
    picture = pictured((40, 30, 50, 120), (200, 80, 64, 96))
    ours = open_detector(path)
    assert ours.name == f"blob.onnx ({layout}, 320x320, OpenCV)"
    sys.modules.pop("onnxruntime")
    theirs = open_detector(path)
    assert theirs.name.endswith("ONNX Runtime)")
    assert len(ours.detect(picture).scores) == 2
    np.testing.assert_allclose(ours.detect(picture).boxes_xywh, theirs.detect(picture).boxes_xywh, atol=1e-3)


def test_opencv_refuses_what_it_cannot_read(tmp_path: Path, without_onnxruntime: None) -> None:
    path = write_constant(tmp_path / "model.onnx", NOTHING, (96, 96))
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Rely"))
    with pytest.raises(ArtifactError, match=r"model.onnx.*(OpenCV .* refuses it|does not run)"):
        open_detector(path)


def test_onnx_runtime_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    path = write_constant(tmp_path / "model.onnx", NOTHING, (96, 96))
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Rely"))
    with pytest.raises(ArtifactError, match="ONNX Runtime refuses it"):
        open_detector(path)


def test_a_network_that_fails_at_work_is_an_error_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = open_detector(write_blob_detector(tmp_path / "blob.onnx"))
    monkeypatch.setattr(detector.session, "infer", lambda _: {}["gone"])
    with pytest.raises(ArtifactError, match=r"blob.onnx .*does not run on an input of \[1, 3, 320, 320\]"):
        detector.detect(pictured())


@pytest.mark.parametrize(("free_hw", "image_hw", "expected"), [
    ((416, 416), (1080, 1920), (416, 416)),
    ((None, None), (1080, 1920), (384, 640)),
    ((None, None), (1920, 1080), (640, 384)),
    ((None, None), (100, 100), (640, 640)),
    ((None, None), (5, 4000), (64, 640)),
    ((None, 320), (480, 640), (512, 320)),
])
def test_a_free_input_takes_the_shape_of_the_picture(free_hw: tuple[int | None, int | None],
                                                     image_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(free_hw, image_hw) == expected


def test_a_detector_of_free_size_is_opened_square_and_runs_in_the_shape_of_the_picture(tmp_path: Path,
                                                                                       rng: Rng) -> None:
    outputs = encoded("yolo-end2end", np.array([[64.0, 32, 192, 320]]), np.array([0.9]), (384, 640), rng)
    detector = open_detector(write_constant(tmp_path / "model.onnx", outputs, ("h", "w")))
    assert detector.name == "model.onnx (yolo-end2end, freexfree, ONNX Runtime)"
    found = detector.detect(np.zeros((720, 1280, 3), np.uint8))
    np.testing.assert_allclose(found.boxes_xywh, [[128, 2 * (32 - 12), 256, 2 * 288]])  # 12 rows of padding above


def test_a_detector_takes_the_threads_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    opened = detector_module.open_session
    monkeypatch.setattr(detector_module, "open_session", lambda *all_of: asked.append(all_of[3]) or opened(*all_of))
    open_detector(write_blob_detector(tmp_path / "blob.onnx"), threads=2)
    assert asked == [2]
