"""UDP's combined targets: equal to mmpose, exact in the round trip, every cell's offset leading to the keypoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs import UDPCombined, build_codec
from edgekp.codecs.combined import _blur_matrix
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int

INPUT_HW = (256, 192)
CODEC = UDPCombined(INPUT_HW)
NAME = "discs_and_offsets"


def visible(xy: Float) -> Int:
    return np.full(xy.shape[:2], 2)


def test_decode_returns_what_was_encoded_even_outside_the_input(rng: np.random.Generator) -> None:
    xy = rng.uniform((-10, -10), (201, 265), (60, 17, 2))
    target = CODEC.encode(xy, visible(xy))
    decoded, scores = CODEC.decode(target.arrays)
    learnt = target.weight > 0
    np.testing.assert_allclose(decoded[learnt], xy[learnt], atol=255 * 2**-23)  # float32 offsets over the whole map
    assert np.abs((decoded - xy)[learnt].mean(0)).max() < 1e-5  # no bias to one side
    inside = ((xy > 0) & (xy < (191, 255))).all(-1)
    assert learnt[inside].all()
    perfect = 1 - np.exp(-(3.5**2) / (2 * 3.8**2))  # of a disc that cells follow exactly
    middle = ((xy > 60) & (xy < (131, 195))).all(-1)
    np.testing.assert_allclose(scores[middle], perfect, rtol=0.2)  # a cell at its rim is in or out as a whole


def test_of_keypoint_k_channel_3k_is_the_disc_and_the_next_two_lead_to_it(rng: np.random.Generator) -> None:
    xy = rng.uniform((0, 0), (191, 255), (2, 3, 2))
    maps = CODEC.encode(xy, visible(xy)).arrays[NAME].reshape(2, 3, 3, 64, 48)
    rows, columns = np.indices((64, 48))
    centers_xy = np.stack([columns * (191 / 47), rows * (255 / 63)], -1)  # first cell on first pixel, last on last
    cells_away = (xy[:, :, None, None] - centers_xy) / (191 / 47, 255 / 63)
    np.testing.assert_array_equal(maps[:, :, 0], np.linalg.norm(cells_away, axis=-1) <= 3.5)
    np.testing.assert_allclose(maps[:, :, 1:].transpose(0, 1, 3, 4, 2) * 3.5, cells_away, atol=1e-5)


def test_what_is_not_labelled_or_without_a_cell_in_reach_weighs_0_and_leaves_empty_maps() -> None:
    reach = 3.5 * 191 / 47
    xy = np.array([[[50.0, 60.0], [-reach - 0.1, 255 / 63], [np.nan, np.nan], [-reach + 0.1, 255 / 63]]])
    target = CODEC.encode(xy, np.array([[0, 2, 0, 1]]))
    np.testing.assert_array_equal(target.weight, [[0, 0, 0, 1]])
    assert not target.arrays[NAME][0, :9].any()
    assert np.isfinite(target.arrays[NAME]).all()


@pytest.mark.parametrize("length", [2, 5, 12, 48, 200])
def test_smoothing_is_opencvs_blur(length: int, rng: np.random.Generator) -> None:
    """OpenCV mirrors the map at its outermost cells, again and again where it is shorter than the kernel."""
    image = rng.normal(size=(length, 48)).astype(np.float32)
    found = _blur_matrix(length) @ image @ _blur_matrix(48).T
    np.testing.assert_allclose(found, cv2.GaussianBlur(image, (23, 23), 0), atol=1e-6)


def test_what_is_no_number_counts_as_0_and_ties_go_to_the_lowest_index() -> None:
    maps = CODEC.encode(np.array([[[95.5, 127.5]] * 4]), np.array([[2] * 4])).arrays[NAME]
    maps[0, 3, 0, :3] = np.nan, np.inf, -np.inf
    maps[0, 6:9] = np.nan
    maps[0, 10], maps[0, 11] = np.nan, np.inf
    xy, scores = CODEC.decode({NAME: maps})
    np.testing.assert_allclose(xy[0, :2], [[95.5, 127.5]] * 2, atol=1e-4)
    np.testing.assert_allclose(xy[0, 2], [0, 0])
    np.testing.assert_allclose(scores, [[scores[0, 0], scores[0, 0], 0, scores[0, 0]]])
    assert np.abs(xy[0, 3] - xy[0, 0]).max() < 3.5 * 255 / 63  # the cell itself, without its offset


@given(maps=arrays(np.float32, (1, 6, 16, 12), elements=st.floats(width=32)))
def test_whatever_a_network_says_decodes_to_finite_numbers(maps: Float) -> None:
    xy, scores = UDPCombined((64, 48)).decode({NAME: maps})
    assert np.isfinite(xy).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("input_hw", "options", "message"), [
    (INPUT_HW, {"stride": 7}, "does not divide"), ((64, 32), {"stride": 32}, "leaves a side of one cell"),
    (INPUT_HW, {"radius_factor": 0}, "above 0"), (INPUT_HW, {"radius_factor": "1"}, "above 0"),
    ((32, 32), {}, "discs of 0.44 cells"), (INPUT_HW, {"sigma": 2}, "no option .* 'sigma'")])
def test_a_codec_that_cannot_be_built_says_why(
        input_hw: tuple[int, int], options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_codec("udp_combined", input_hw, options)


# mmpose decodes in units of which the input is 192 wide, where UDP encodes the 191 spaces between its pixels.
SPACES_TO_PIXELS = np.array([191 / 192, 255 / 256])


@pytest.fixture
def oracle(real_data: Path) -> dict[str, Float]:
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    case = {name.split("/")[1]: archive[name] for name in archive.files if name.startswith("UDPHeatmap_combined/")}
    return case | {"keypoints": archive["keypoints"], "visible": archive["keypoints_visible"]}


def test_encoding_agrees_with_mmpose(oracle: dict[str, Float]) -> None:
    """Offsets reach 18 radii, whose float32 is off by 2**-20; mmpose rounds twice."""
    target = CODEC.encode(oracle["keypoints"], oracle["visible"].astype(np.int64))
    np.testing.assert_array_equal(target.weight, oracle["keypoint_weights"])
    np.testing.assert_array_equal(target.arrays[NAME][0, ::3], oracle["heatmaps"][::3])
    np.testing.assert_allclose(target.arrays[NAME][0], oracle["heatmaps"], atol=2 * 2**-20)


@pytest.mark.parametrize("prefix", ["", "noisy_"])
def test_decoding_agrees_with_mmpose(oracle: dict[str, Float], prefix: str) -> None:
    """mmpose adds up its blur in float32, and positions of up to 256 in steps of 2**-16."""
    xy, scores = CODEC.decode({NAME: oracle[f"{prefix}heatmaps"][None]})
    learnt = oracle["keypoint_weights"][0] > 0
    expected = oracle[f"{prefix}decoded_keypoints"][0] * SPACES_TO_PIXELS
    np.testing.assert_allclose(xy[0, learnt], expected[learnt], atol=2**-16)
    np.testing.assert_allclose(scores[0, learnt], oracle[f"{prefix}decoded_scores"][0, learnt], atol=1e-6)
