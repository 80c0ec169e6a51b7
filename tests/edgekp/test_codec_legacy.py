"""The codecs of networks trained elsewhere: equal to mmpose's, and as biased as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs.heatmap import Heatmap
from edgekp.codecs.megvii import Megvii
from edgekp.codecs.msra import MSRA
from edgekp.codecs.udp import UDP
from edgekp.sample import Float

INPUT_HW = (256, 192)
Legacy = MSRA | UDP | Megvii
each_legacy = pytest.mark.parametrize("codec", [MSRA(INPUT_HW), UDP(INPUT_HW), Megvii(INPUT_HW)], ids=str)


def visible(n: int, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full((n, k), 2)


def inner_pixels(rng: np.random.Generator) -> Float:
    """(1, 64, 2) whole pixels over 64 of them in x and in y, which are whole cells of 4."""
    return np.stack([64 + np.arange(64), 96 + rng.permutation(64)], -1)[None].astype(np.float64)


def shift_under_mirroring(codec: Legacy, xy: Float) -> Float:
    """(2,) pixels from the mirrored keypoint to what the mirrored map decodes to."""
    maps = codec.encode(xy, visible(*xy.shape[:2])).arrays["heatmaps"]
    straight, _ = codec.decode({"heatmaps": maps})
    turned, _ = codec.decode({"heatmaps": maps[..., ::-1]})
    shift = turned - (straight * [-1, 1] + [INPUT_HW[1] - 1, 0])
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=0.01)
    return shift[0, 0]


# mmpose


ORACLES = [("MSRAHeatmap", MSRA(INPUT_HW)), ("UDPHeatmap", UDP(INPUT_HW)), ("MegviiHeatmap", Megvii(INPUT_HW))]


def oracle(real_data: Path, name: str) -> dict[str, Any]:
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    case = {key.split("/")[1]: archive[key] for key in archive.files if key.startswith(f"{name}/")}
    return case | {"keypoints": archive["keypoints"], "visibility": 2 * archive["keypoints_visible"].astype(np.int64)}


@pytest.mark.parametrize(("name", "codec", "atol"), [
    (*ORACLES[0], 1.2e-7),  # the last bit of a float32
    (*ORACLES[1], 1e-6),  # mmpose rounds its scale to float32: 3e-6 cells at the map's end, on a slope of 0.3 a cell
    (*ORACLES[2], 4e-5),  # the last bits of 255
], ids=[name for name, _ in ORACLES])
def test_encoding_is_mmposes(real_data: Path, name: str, codec: Legacy, atol: float) -> None:
    case = oracle(real_data, name)
    target = codec.encode(case["keypoints"], case["visibility"])
    np.testing.assert_array_equal(target.weight, case["keypoint_weights"])
    compared = case["keypoint_weights"][0] > 0
    if isinstance(codec, UDP):  # halfway between two cells, a last bit decides which of them the patch surrounds
        compared &= (codec.grid.to_cells(case["keypoints"][0]) % 1 != 0.5).all(-1)
    assert compared.sum() >= 13
    np.testing.assert_allclose(target.arrays["heatmaps"][0, compared], case["heatmaps"][compared], rtol=0, atol=atol)


@pytest.mark.parametrize("prefix", ["", "noisy_"])
@pytest.mark.parametrize(("name", "codec"), ORACLES, ids=[name for name, _ in ORACLES])
def test_decoding_is_mmposes(real_data: Path, name: str, codec: Legacy, prefix: str) -> None:
    """MSRA and Megvii to the last bit; UDP to what float32 logarithms leave of a position, 1e-5 pixels."""
    case = oracle(real_data, name)
    compared = case["keypoint_weights"][0] > 0
    xy, scores = codec.decode({"heatmaps": case[f"{prefix}heatmaps"][None]})
    expected = case[f"{prefix}decoded_keypoints"][0]
    if isinstance(codec, UDP):  # mmpose leaves the last pixel to the warp: it multiplies by 192 / 47, not by 191 / 47
        expected = expected * (np.array(INPUT_HW[::-1]) - 1) / INPUT_HW[::-1]
    np.testing.assert_allclose(xy[0, compared], expected[compared], atol=2e-5 if isinstance(codec, UDP) else 1e-9)
    np.testing.assert_allclose(scores[0, compared], case[f"{prefix}decoded_scores"][0, compared], rtol=1e-6)


def udp_as_published(heatmap: Float) -> Float:
    """(2,) cells, for one map: blur all of it, restore its height, take logarithms, one Newton step."""
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    smooth = cv2.GaussianBlur(np.pad(heatmap, 5), (11, 11), 0)[5:-5, 5:-5]
    log = np.pad(np.log(np.clip(smooth * (heatmap.max() / smooth.max()), 1e-3, 50)), 1, mode="edge").astype(np.float64)
    near = log[y:y + 3, x:x + 3]
    gradient = np.array([near[1, 2] - near[1, 0], near[2, 1] - near[0, 1]]) / 2
    xx, yy = near[1, 2] - 2 * near[1, 1] + near[1, 0], near[2, 1] - 2 * near[1, 1] + near[0, 1]
    xy = (near[2, 2] - near[1, 2] - near[2, 1] + 2 * near[1, 1] - near[1, 0] - near[0, 1] + near[0, 0]) / 2
    step = np.linalg.solve(np.array([[xx, xy], [xy, yy]]) + 1e-7 * np.eye(2), -gradient)
    return np.array([x, y]) + (step if np.abs(step).max() <= 2 else 0)


@pytest.mark.parametrize("height", [100.0, 1.0, 0.01, 0.002])
def test_udp_decodes_high_and_low_maps_as_published(height: float, rng: np.random.Generator) -> None:
    """Above 50 and below 0.001 a map is cut flat; the float32 logarithms leave 1e-5 of a cell."""
    codec = UDP(INPUT_HW)
    maps = codec.encode(rng.uniform(0, (191, 255), (2, 17, 2)), visible(2, 17)).arrays["heatmaps"]
    maps = (height * (maps + rng.uniform(0, 0.1, maps.shape))).astype(np.float32)
    expected = [[udp_as_published(heatmap) for heatmap in person] for person in maps]
    np.testing.assert_allclose(codec.grid.to_cells(codec.decode({"heatmaps": maps})[0]), expected, atol=1e-4)


@pytest.mark.parametrize(("column", "row", "dx", "dy"), [
    (2, 1, 0.25, 0), (1, 2, 0, 0.25), (2, 2, 0.25, 0.25), (1, 1, 0, 0), (0, 9, 0, 0), (9, 0, 0, 0),
    (46, 63, 0.25, 0), (47, 62, 0, 0.25),
])
def test_msra_refines_near_the_border_where_mmpose_does(column: int, row: int, dx: float, dy: float) -> None:
    maps = np.zeros((66, 50), np.float32)
    maps[row, column], maps[row + 1, column], maps[row, column + 1] = 1.0, 0.5, 0.5
    xy, _ = MSRA(INPUT_HW).decode({"heatmaps": maps[None, None, :64, :48]})
    np.testing.assert_array_equal(xy, [[[4 * (column + dx), 4 * (row + dy)]]])


@pytest.mark.parametrize(("column", "row", "refined"), [
    (2, 2, True), (46, 62, True), (1, 9, False), (9, 1, False), (47, 9, False), (9, 63, False)])
def test_megvii_answers_a_cells_middle_but_near_the_border_its_corner(column: int, row: int, refined: bool) -> None:
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, row, column] = 255
    xy, _ = Megvii(INPUT_HW).decode({"heatmaps": maps})
    np.testing.assert_array_equal(xy, [[[4 * column + 2 * refined, 4 * row + 2 * refined]]])


# What is biased


def test_msra_answers_whole_pixels_half_a_pixel_too_far_on_average(rng: np.random.Generator) -> None:
    """Of four pixels a cell, those 0, 1, 2, 3 after its centre are answered 0, 1 before, 2 and 1 pixels too far."""
    xy = inner_pixels(rng)
    error = MSRA(INPUT_HW).decode(MSRA(INPUT_HW).encode(xy, visible(1, 64)).arrays)[0] - xy
    np.testing.assert_array_equal(error[0, :4, 0], [0, -1, 2, 1])
    np.testing.assert_array_equal(error.mean((0, 1)), [0.5, 0.5])


@pytest.mark.parametrize(("stride", "shift"), [(4, -3.0), (2, -1.0)])
def test_trap_a_mirrored_map_of_msra_decodes_a_stride_less_one_pixel_to_the_left(
        stride: int, shift: float, rng: np.random.Generator) -> None:
    np.testing.assert_allclose(shift_under_mirroring(MSRA(INPUT_HW, stride), inner_pixels(rng)), [shift, 0])


def test_megvii_answers_whole_pixels_half_a_pixel_too_far_on_average(rng: np.random.Generator) -> None:
    """A cell's middle is that of pixels 0 to 3, 1.5; what it answers is 2."""
    xy = inner_pixels(rng)
    error = Megvii(INPUT_HW).decode(Megvii(INPUT_HW).encode(xy, visible(1, 64)).arrays)[0] - xy
    np.testing.assert_array_equal(error[0, :4, 0], [2, 1, 0, -1])
    np.testing.assert_array_equal(error.mean((0, 1)), [0.5, 0.5])


@pytest.mark.parametrize("stride", [2, 4])
def test_trap_a_mirrored_map_of_megvii_decodes_one_pixel_to_the_right(stride: int, rng: np.random.Generator) -> None:
    np.testing.assert_allclose(shift_under_mirroring(Megvii(INPUT_HW, stride), inner_pixels(rng)), [1, 0])


def test_udp_is_not_shifted_by_mirroring_nor_from_pixel_to_pixel(rng: np.random.Generator) -> None:
    codec, xy = UDP(INPUT_HW), inner_pixels(rng)
    np.testing.assert_allclose(shift_under_mirroring(codec, xy), 0, atol=0.01)
    error = codec.decode(codec.encode(xy, visible(1, 64)).arrays)[0] - xy
    assert np.abs(error).max() < 0.01


def test_the_grids_of_udp_and_of_pixel_centres_part_towards_the_border() -> None:
    corners = np.array([[0.0, 0.0], [23.5, 31.5], [47.0, 63.0]])
    np.testing.assert_allclose(UDP(INPUT_HW).grid.to_pixels(corners), [[0, 0], [95.5, 127.5], [191, 255]])
    np.testing.assert_allclose(Heatmap(INPUT_HW).grid.to_pixels(corners), [[1.5, 1.5], [95.5, 127.5], [189.5, 253.5]])


# What they draw


@pytest.mark.parametrize(("sigma", "side"), [(2, 13), (3, 19)])
def test_msra_draws_a_patch_of_3_sigma_around_a_whole_cell(sigma: float, side: int) -> None:
    heatmap = MSRA(INPUT_HW, sigma=sigma).encode(np.array([[[101.0, 98.0]]]), visible(1, 1)).arrays["heatmaps"][0, 0]
    rows, columns = np.nonzero(heatmap)
    assert heatmap[25, 25] == 1
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (side, side)


@pytest.mark.parametrize("codec", [MSRA(INPUT_HW), UDP(INPUT_HW)], ids=str)
def test_a_keypoint_whose_patch_misses_the_map_weighs_0(codec: Legacy) -> None:
    cells = np.array([[[-6.0, 20.0], [20.0, 69.0], [-7.6, 20.0], [20.0, 69.6]]])  # a patch reaches 6 cells
    target = codec.encode(codec.grid.to_pixels(cells), visible(1, 4))
    np.testing.assert_array_equal(target.weight, [[1, 1, 0, 0]])
    np.testing.assert_array_equal(target.arrays["heatmaps"].max((2, 3)) > 0, [[True, True, False, False]])


def test_megvii_weighs_only_keypoints_in_a_cell() -> None:
    xy = np.array([[[0.0, 0.0], [191.9, 255.9], [-4.0, 9.0], [192.0, 9.0], [9.0, 256.0], [np.nan, 9.0]]])
    target = Megvii(INPUT_HW).encode(xy, visible(1, 6))
    np.testing.assert_array_equal(target.weight, [[1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(target.arrays["heatmaps"].max((2, 3)), [[255, 255, 0, 0, 0, 0]])


@pytest.mark.parametrize("kernel_size", [11, 15])
def test_megvii_draws_what_opencv_makes_of_an_impulse(kernel_size: int, rng: np.random.Generator) -> None:
    cells = np.concatenate([rng.integers(0, (24, 32), (20, 2)), [[0, 0], [23, 31], [1, 30]]])
    maps = Megvii((128, 96), kernel_size=kernel_size).encode(4.0 * cells[None], visible(1, 23)).arrays["heatmaps"][0]
    for (x, y), heatmap in zip(cells, maps, strict=True):
        impulse = np.zeros((32, 24), np.float32)
        impulse[y, x] = 1
        blurred = cv2.GaussianBlur(impulse, (kernel_size, kernel_size), 0)
        np.testing.assert_allclose(heatmap, blurred / blurred[y, x] * 255, rtol=0, atol=1e-4)


# Broken maps


@pytest.mark.filterwarnings("error")
@each_legacy
def test_nan_never_wins_and_a_map_of_nothing_else_scores_0(codec: Legacy) -> None:
    maps = codec.encode(np.array([[[98.0, 130.0]] * 5]), visible(1, 5)).arrays["heatmaps"]
    maps[0, 1, 0, 0] = np.nan
    maps[0, 2] = np.nan
    maps[0, 3] = 0
    maps[0, 4] = -np.inf
    xy, scores = codec.decode({"heatmaps": maps})
    assert np.isfinite(xy).all()
    np.testing.assert_allclose(xy[0, 1], xy[0, 0])
    empty = 0.5 if isinstance(codec, Megvii) else 0.0
    np.testing.assert_allclose(scores, [[scores[0, 0], scores[0, 0], 0, empty, 0]])


@pytest.mark.filterwarnings("error")
@each_legacy
@given(maps=arrays(np.float32, (1, 2, 8, 6), elements=st.floats(width=32)))
@example(maps=np.array([[-np.inf, 1e-3]] + [[0, 0]] * 7, np.float32).reshape(1, 1, 8, 2))  # huge where it is smoothed
def test_whatever_a_network_says_decodes_to_finite_numbers(codec: Legacy, maps: Float) -> None:
    xy, scores = type(codec)(INPUT_HW).decode({"heatmaps": maps})
    assert np.isfinite(xy).all()
    assert np.isfinite(scores).all()
