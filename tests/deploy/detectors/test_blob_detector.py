"""The blob detector finds figures of any shape in pictures of any size; and the command that shows it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.runtime.detectors import open_detector
from deploy.runtime.detectors.__main__ import main, parser
from edgekp import cli
from edgekp.sample import Float, Image
from tests.deploy.detectors.blob_detector import SCORE, write_blob_detector

LAYOUTS = ("yolov8", "yolox")


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detectors")
    return {layout: write_blob_detector(folder / f"{layout}.onnx", (256, 320), layout) for layout in LAYOUTS}


def figures(image_hw: tuple[int, int], count: int) -> tuple[Image, Float]:
    """Stick figures with outstretched arms side by side, and the boxes around their pixels."""
    picture = np.full((*image_hw, 3), 90, np.uint8)
    h, step = image_hw[0], image_hw[1] / max(count, 1)
    boxes = []
    for number in range(count):
        figure = np.zeros(image_hw, np.uint8)
        x, reach, thick = round((number + 0.5) * step), round(step * 0.3), max(2, round(h * 0.03))
        neck, hip, foot = round(h * 0.3), round(h * 0.55), round(h * (0.8 + 0.02 * number))
        cv2.circle(figure, (x, round(h * 0.2)), round(h * 0.06), 255, -1)
        for start, end in (((x, round(h * 0.2)), (x, hip)), ((x - reach, neck - 5), (x, neck)),
                           ((x, neck), (x + reach, hip)), ((x, hip), (x - reach // 2, foot)),
                           ((x, hip), (x + reach // 2, foot))):
            cv2.line(figure, start, end, 255, thick)
        boxes.append(cv2.boundingRect(figure))
        picture[figure > 0] = (230, 240, 220)
    return picture, np.array(sorted(boxes), np.float64).reshape(-1, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("image_hw", "count"), [((256, 320), 3), ((480, 640), 4), ((601, 339), 1), ((500, 777), 0)])
def test_each_figure_is_found_once_to_a_pixel_of_the_input(layout: str, image_hw: tuple[int, int], count: int,
                                                           detectors: dict[str, Path]) -> None:
    picture, boxes = figures(image_hw, count)
    detector = open_detector(detectors[layout])
    found = detector.detect(picture)
    in_order = found.boxes_xywh[np.argsort(found.boxes_xywh[:, 0])]
    assert in_order.shape == boxes.shape
    one_px = max(image_hw[0] / 256, image_hw[1] / 320, 1)
    edges, expected = (np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]) for b in (in_order, boxes))
    np.testing.assert_allclose(edges, expected, atol=one_px)
    assert found.scores == pytest.approx([SCORE] * count)


def test_a_rectangle_that_is_halved_exactly_comes_back_exactly(detectors: dict[str, Path]) -> None:
    picture = np.full((512, 640, 3), 90, np.uint8)
    picture[100:300, 40:120] = 255
    found = open_detector(detectors["yolov8"]).detect(picture)
    np.testing.assert_allclose(found.boxes_xywh, [[40, 100, 80, 200]], atol=1e-4)


def test_the_command_says_the_layout_and_draws_the_boxes(detectors: dict[str, Path], tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    picture, boxes = figures((480, 640), 2)
    cv2.imwrite(str(tmp_path / "people.png"), picture)
    arguments = [str(detectors["yolox"]), str(tmp_path / "people.png"), "--out", str(tmp_path / "out.png")]
    assert cli.run(main, parser(), arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "yolox.onnx (yolox, 320x256, ONNX Runtime)"
    assert len(lines) == 3
    drawn = cv2.imread(str(tmp_path / "out.png"))
    changed = (drawn != picture).any(axis=2)
    columns = np.flatnonzero(changed.any(axis=0))
    line_width = 2
    assert abs(columns[0] - boxes[0, 0]) <= line_width + 2  # and a pixel of the input
    assert abs(columns[-1] - (boxes[1, 0] + boxes[1, 2] - 1)) <= line_width + 2


def test_the_command_refuses_in_one_line(detectors: dict[str, Path], tmp_path: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(main, parser(), [str(detectors["yolox"]), str(tmp_path / "none.png")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
