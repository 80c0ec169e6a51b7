"""What the codec makes of the labels, in numbers: empty maps, and sigma against people and annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.codecs import CODECS, build_codec
from edgekp.doctor.dataset import DataSet, Plan
from edgekp.doctor.targets import check_targets
from edgekp.preprocess import InputSpec, crop_affine, transform
from edgekp.skeletons import Skeleton

# Two keypoints; a box of 102.4 x 136.533 pixels fills 192 x 256 with a padding of 1.25 at 1.5 input pixels a pixel.
PAIR = Skeleton("pair", ("a", "b"), ((0, 1),), (), (0.05, 0.05))
BOX = [200.0, 200.0, 102.4, 102.4 / 0.75]
SCALE = 1.5
AREA = 6400.0  # annotators differ by 0.05 * 80 = 4 pixels of the image, 6 of the input


def found(places: list[tuple[float, float]], **options: Any) -> dict[str, str]:
    """Findings by code, each with its first example; ``places`` are offsets from the box's corner."""
    entry = {"id": 1, "image_id": 1, "bbox": BOX, "area": AREA,
             "keypoints": [value for x, y in places for value in (BOX[0] + x, BOX[1] + y, 2)]}
    codec = build_codec(options.pop("codec", "heatmap"), (256, 192), options)
    data = DataSet("set", {"images": [{"id": 1, "width": 640, "height": 480}], "annotations": [entry]}, Path(), PAIR,
                   Plan(InputSpec((256, 192)), codec))
    return {finding.fault.code: finding.examples[0].value for finding in check_targets(data)}


def apart(pixels: float) -> list[tuple[float, float]]:
    return [(40.0, 60.0), (40.0 + pixels, 60.0)]


def test_the_box_has_the_scale_that_these_tests_count_on() -> None:
    assert crop_affine(np.array(BOX), (256, 192), 1.25)[0, 0] == pytest.approx(SCALE)


@pytest.mark.parametrize(("distance_px", "expected"), [(8.0 / SCALE * 1.02, set()), (8.0 / SCALE * 0.98,
                                                                                  {"sigma-too-large"})])
def test_sigma_is_too_large_when_neighbours_are_within_it(distance_px: float, expected: set[str]) -> None:
    """2 cells of 4 pixels are 8 pixels of the input."""
    assert found(apart(distance_px), sigma=2.0, stride=4).keys() == expected


@pytest.mark.parametrize(("sigma", "stride", "expected"), [
    (0.76, 4, set()), (0.74, 4, {"sigma-too-small"}),  # 0.75 of a cell
    (1.01, 2, set()), (0.99, 2, {"sigma-too-small"})])  # 2 pixels, a third of the annotators' 6
def test_sigma_is_too_small_for_the_map_or_for_the_annotators(sigma: float, stride: int, expected: set[str]) -> None:
    assert found(apart(50.0), sigma=sigma, stride=stride).keys() == expected


@pytest.mark.parametrize("codec", ["heatmap", "offset", "integral", "msra", "udp"])
def test_every_codec_of_gaussians_is_judged(codec: str) -> None:
    assert found(apart(50.0), codec=codec, sigma=0.5).keys() == {"sigma-too-small"}


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_every_codec_can_be_looked_at(codec: str) -> None:
    assert found(apart(50.0), codec=codec) == {}


def test_the_numbers_behind_the_verdict_are_told() -> None:
    value = found(apart(4.0), sigma=2.0, stride=4)["sigma-too-large"]
    assert "8 px" in value
    assert "6.0 px apart" in value


def test_a_map_that_is_called_zero_is_zero() -> None:
    """The codec's own arrays say so: nothing of the keypoint is on its map."""
    places = [(40.0, 60.0), (-68.0, 60.0)]  # half the box outside: 0.125 of it is padding, 24 pixels are three sigmas
    assert found(places) == {"target-zero": "b"}
    affine = crop_affine(np.array(BOX), (256, 192), 1.25)
    input_xy = transform(np.array([[(BOX[0] + x, BOX[1] + y) for x, y in places]]), affine)
    maps = build_codec("heatmap", (256, 192), {}).encode(input_xy, np.array([[2, 2]])).arrays["heatmaps"]
    assert maps[0, 0].max() > 0.5
    assert maps[0, 1].max() == 0


def test_a_codec_that_keeps_every_keypoint_has_no_zero_targets() -> None:
    assert found([(40.0, 60.0), (-68.0, 60.0)], codec="regression") == {}


def test_nothing_is_said_of_targets_that_nobody_named() -> None:
    data = DataSet("set", {"images": [], "annotations": []}, Path(), PAIR)
    assert list(check_targets(data)) == []
