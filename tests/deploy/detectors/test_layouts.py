"""Every family: its input pixel by pixel, its boxes there and back, and which file is whose."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.detectors import LAYOUTS, open_detector
from deploy.runtime.detectors.detector import detections
from deploy.runtime.detectors.layout import Seen
from deploy.runtime.detectors.layouts import recognise
from edgekp.errors import ArtifactError
from edgekp.sample import Float
from tests.deploy.detectors.encoders import CLASSES, FACES, PREPARED, cells, centres, encoded, raw, write_constant

SIZES = ((640, 640), (416, 416), (384, 640), (640, 352), (96, 160))
SCORE = 0.4
EXACT_PX = 1e-6


def people(image_hw: tuple[int, int], count: int, rng: np.random.Generator) -> Float:
    """(N, 4) boxes side by side, so that none suppresses another."""
    strip = image_hw[1] / max(count, 1)
    first, last = np.sort(rng.uniform(0, 1, (2, count, 2)), axis=0)
    size = np.maximum(last - first, 0.01)  # not so flat that rounding takes its area
    first = np.minimum(first, 1 - size)
    return np.column_stack([(np.arange(count) + first[:, 0]) * strip, first[:, 1] * image_hw[0], size[:, 0] * strip,
                            size[:, 1] * image_hw[0]])


def any_picture(image_hw: tuple[int, int], rng: np.random.Generator) -> Float:
    return rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8)


def seen(name: str, outputs: dict[str, Float], input_hw: tuple[int, int]) -> Seen:
    return Seen(outputs, input_hw, frozenset({"Slice"} if name == "yolox-mmdeploy" else {"Conv"}))


def test_every_layout_has_an_encoder() -> None:
    assert set(LAYOUTS) == set(PREPARED)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(deadline=None)
@given(image_hw=st.tuples(st.integers(2, 2500), st.integers(2, 2500)), input_hw=st.sampled_from(SIZES),
       count=st.integers(0, 6), seed=st.integers(0, 2**32 - 1))
def test_boxes_come_back_exactly_through_the_letterbox(name: str, image_hw: tuple[int, int],
                                                       input_hw: tuple[int, int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = people(image_hw, count, rng), rng.uniform(SCORE + 0.01, 0.98, count)
    edges = PREPARED[name](np.zeros((*image_hw, 3), np.uint8), input_hw).edges(boxes, image_hw)
    layout = LAYOUTS[name]
    found = detections(layout, encoded(name, edges, scores, input_hw, rng), layout.letterbox.place(image_hw, input_hw),
                       input_hw, 0, SCORE)
    order = np.argsort(-scores)
    np.testing.assert_allclose(found.boxes_xywh, boxes[order], rtol=0, atol=EXACT_PX)
    np.testing.assert_allclose(found.scores, scores[order], rtol=1e-12)


@pytest.mark.parametrize("image_hw", [(480, 640), (641, 479), (719, 1281), (33, 97), (1080, 1920), (7, 500)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_input_is_pixel_by_pixel_that_of_the_family(name: str, image_hw: tuple[int, int],
                                                        rng: np.random.Generator) -> None:
    picture = any_picture(image_hw, rng)
    for input_hw in SIZES[1:]:
        expected = PREPARED[name](picture, input_hw)
        filled, at = LAYOUTS[name].letterbox.fill(picture, input_hw)
        assert ((at.left, at.top), at.resized_hw[::-1]) == (expected.offset_xy, expected.size_wh)
        assert filled.dtype == np.float32
        np.testing.assert_allclose(filled[0], expected.pixels, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("input_hw", SIZES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_auto_recognises_every_family(name: str, input_hw: tuple[int, int], rng: np.random.Generator) -> None:
    for count in (0, 3):
        edges = people(input_hw, count, rng)
        edges[:, 2:] += edges[:, :2]
        outputs = encoded(name, edges, np.full(count, 0.8), input_hw, rng)
        assert recognise(seen(name, outputs, input_hw), "auto") == name


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - set(FACES)))
def test_only_the_chosen_class_is_found(name: str, rng: np.random.Generator) -> None:
    outputs = encoded(name, np.array([[10.0, 20.0, 50.0, 80.0]]), np.array([0.8]), (96, 96), rng, class_id=1)
    at = LAYOUTS[name].letterbox.place((96, 96), (96, 96))
    found = detections(LAYOUTS[name], outputs, at, (96, 96), 1, SCORE)
    np.testing.assert_allclose(found.boxes_xywh, [[10, 20, 40, 60]], atol=EXACT_PX)
    assert found.scores == pytest.approx([0.8])
    assert len(detections(LAYOUTS[name], outputs, at, (96, 96), 0, SCORE).scores) == 0


@pytest.mark.parametrize("name", ["yolox", "yolov5", "yolov8", "yunet", "scrfd"])
def test_a_class_that_is_not_there_is_refused(name: str, rng: np.random.Generator) -> None:
    classes = 1 if name in FACES else CLASSES
    outputs = encoded(name, np.zeros((0, 4)), np.zeros(0), (96, 96), rng)
    for wrong in (classes, -1):
        with pytest.raises(ArtifactError, match=f"no class {wrong}; this detector has {classes}"):
            LAYOUTS[name].candidates(outputs, (96, 96), wrong, SCORE)


@pytest.mark.parametrize("name", LAYOUTS)
def test_whatever_a_network_says_the_boxes_are_boxes(name: str, rng: np.random.Generator) -> None:
    input_hw, image_hw = (96, 96), (200, 120)
    outputs = encoded(name, np.zeros((0, 4)), np.zeros(0), input_hw, rng)
    said = [np.nan, np.inf, -np.inf, 0.0, 0.5, 1.0, -3.0, 800.0, 1e30, 3e38, -3e38]
    outputs = {key: rng.choice(np.array(said, np.float32), array.shape) if array.dtype == np.float64 else array
               for key, array in outputs.items()}
    at = LAYOUTS[name].letterbox.place(image_hw, input_hw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = detections(LAYOUTS[name], outputs, at, input_hw, 0, SCORE)
    assert np.isfinite(found.scores).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes_xywh[:, :2] >= 0).all()
    assert (found.boxes_xywh[:, 2:] > 0).all()
    assert (found.boxes_xywh[:, :2] + found.boxes_xywh[:, 2:] <= np.array(image_hw[::-1]) + 1e-9).all()


def test_models_with_a_fourth_level_are_told_apart_and_decoded(rng: np.random.Generator) -> None:
    input_hw, edges, strides = (128, 192), np.array([[10.0, 20.0, 50.0, 80.0]]), (8, 16, 32, 64)
    grid = cells(input_hw, strides)
    outputs = {"output": raw(edges, np.array([0.8]), np.array([0]), grid, rng)}
    assert recognise(seen("yolox", outputs, input_hw), "auto") == "yolox"
    found = LAYOUTS["yolox"].candidates(outputs, input_hw, 0, SCORE)
    np.testing.assert_allclose(found.corners_xyxy, edges, atol=EXACT_PX)
    of_v5 = {"output": np.zeros((1, 3 * len(grid), 85))}
    assert recognise(seen("yolov5", of_v5, input_hw), "auto") == "yolov5"
    for levels in (strides, (4, 8, 16, 32)):
        of_v8 = {"output0": np.zeros((1, 84, len(cells(input_hw, levels))))}
        assert recognise(seen("yolov8", of_v8, input_hw), "auto") == "yolov8"


def test_a_pose_model_gives_its_people_and_has_one_class(rng: np.random.Generator) -> None:
    outputs = {"output0": np.full((1, 56, len(cells((96, 96)))), 0.9)}  # keypoints that look like scores
    outputs["output0"][0, 4] = 0
    edges = np.array([[10.0, 20.0, 50.0, 80.0]])
    outputs["output0"][0, :5, 7] = [*centres(edges)[0], 0.8]
    assert recognise(seen("yolov8", outputs, (96, 96)), "auto") == "yolov8"
    found = LAYOUTS["yolov8"].candidates(outputs, (96, 96), 0, SCORE)
    np.testing.assert_allclose(found.corners_xyxy, edges)
    with pytest.raises(ArtifactError, match="no class 1; this detector has 1"):
        LAYOUTS["yolov8"].candidates(outputs, (96, 96), 1, SCORE)


@pytest.mark.parametrize("outputs", [
    {"logits": np.zeros((1, 300, 91)), "pred_boxes": np.zeros((1, 300, 4))},  # DETR
    {"heads": np.zeros((1, 3, 12, 12, 85))},  # YOLOv5 before its detection layer
    {"dets": np.zeros((1, 9, 5))},  # mmdeploy without labels
    {"output0": np.zeros((1, 84))},
    {"scalar": np.zeros(())},
    {f"cls_{stride}": np.zeros((1, 4, 1)) for stride in (8, 16, 32)},
])
def test_an_unknown_layout_is_refused_with_what_was_found_and_what_is_known(outputs: dict[str, Float]) -> None:
    with pytest.raises(ArtifactError) as refused:
        recognise(seen("", outputs, (96, 96)), "auto")
    for name, array in outputs.items():
        assert f"{name} {list(array.shape)}" in str(refused.value)
    assert all(f"{name}: " in str(refused.value) for name in LAYOUTS)


def test_a_layout_that_does_not_fit_is_refused_with_the_one_that_does() -> None:
    outputs = {"output0": np.zeros((1, 84, len(cells((96, 96)))))}
    with pytest.raises(ArtifactError, match=r"but layout 'yunet' has cls_8 .* fitting: yolov8"):
        recognise(seen("yolov8", outputs, (96, 96)), "yunet")


def test_a_layout_that_is_named_is_taken_where_values_would_say_another(rng: np.random.Generator) -> None:
    outputs = encoded("yolov6", np.zeros((0, 4)), np.zeros(0), (96, 96), rng)
    assert recognise(seen("yolov6", outputs, (96, 96)), "yolox-decoded") == "yolox-decoded"


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_every_family_opens_and_detects(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    picture = any_picture((90, 150), rng)
    boxes = people((90, 150), 3, rng)
    edges = PREPARED[name](picture, (96, 160)).edges(boxes, (90, 150))
    outputs = encoded(name, edges, np.array([0.9, 0.8, 0.7]), (96, 160), rng)
    path = write_constant(tmp_path / "model.onnx", outputs, (96, 160), slices=name == "yolox-mmdeploy")
    detector = open_detector(path)
    assert detector.name == f"model.onnx ({name}, 160x96, ONNX Runtime)"
    np.testing.assert_allclose(detector.detect(picture).boxes_xywh, boxes, atol=EXACT_PX)
    detector.close()


@pytest.mark.parametrize("name", ["yolox", "yolov8", "rtmdet"])
def test_boxes_fit_real_pictures_of_any_size(name: str, real_data: Path, rng: np.random.Generator) -> None:
    pictures = sorted((real_data / "pose_coco17").rglob("*.jpg"))[:12]
    assert pictures
    for file in pictures:
        picture = cv2.imread(str(file))
        image_hw = picture.shape[:2]
        boxes = people(image_hw, 2, rng)
        expected = PREPARED[name](picture, (416, 416))
        filled, at = LAYOUTS[name].letterbox.fill(picture, (416, 416))
        np.testing.assert_allclose(filled[0], expected.pixels, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(at.to_image(expected.edges(boxes, image_hw))[:, :2], boxes[:, :2], atol=EXACT_PX)
