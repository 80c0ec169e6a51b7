"""Codecs: what goes in comes out, mirrored or not, and only visibility says what counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs import CODECS, Codec, build_codec, codec_from_json, codec_to_json
from edgekp.codecs.heatmap import Heatmap
from edgekp.errors import RecipeError
from edgekp.sample import Float

INPUT_HW = (128, 96)
CONFIGURATIONS: list[tuple[str, dict[str, Any]]] = [
    ("heatmap", {}), ("heatmap", {"stride": 2, "sigma": 1.5}), ("heatmap", {"stride": 8, "sigma": 1.0}),
    ("regression", {}),
]
each_codec = pytest.mark.parametrize(
    "codec", [build_codec(name, INPUT_HW, options) for name, options in CONFIGURATIONS], ids=str)


def visible(n: int, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full((n, k), 2)


def mirrored(xy: Float) -> Float:
    return xy * [-1, 1] + [INPUT_HW[1] - 1, 0]


def test_every_codec_is_tested_here() -> None:
    assert {name for name, _ in CONFIGURATIONS} == set(CODECS)


@each_codec
def test_decode_returns_what_was_encoded(codec: Codec, rng: np.random.Generator) -> None:
    """DARK is exact on a Gaussian but for its blur kernel, cut off at 2.5 sigma: 1/500 cell far from the border."""
    margin = 40 if isinstance(codec, Heatmap) and codec.stride == 8 else 30
    xy = rng.uniform(margin, np.array(INPUT_HW[::-1]) - 1 - margin, (50, 17, 2))
    decoded, scores = codec.decode(codec.encode(xy, visible(50, 17)).arrays)
    cell = codec.stride if isinstance(codec, Heatmap) else 1
    error = np.linalg.norm(decoded - xy, axis=-1)
    assert error.max() < 0.01 * cell
    assert error.mean() < 0.002 * cell
    assert np.abs((decoded - xy).mean((0, 1))).max() < 0.0005 * cell  # no bias to one side
    assert ((scores > 0.75) & (scores <= 1)).all()


@given(fraction=arrays(np.float64, (1, 1, 2), elements=st.floats(0, 1)))
def test_the_mean_error_of_dark_is_sub_pixel_everywhere_and_never_over_a_cell(fraction: Float) -> None:
    codec = Heatmap(INPUT_HW)
    xy = fraction * (np.array(INPUT_HW[::-1]) - 1)
    decoded, _ = codec.decode(codec.encode(xy, visible(1, 1)).arrays)
    assert np.abs(decoded - xy).max() <= codec.stride / 2 + 1e-6  # at the border argmax is left: half a cell


def test_sub_pixel_mean_error_over_the_whole_input(rng: np.random.Generator) -> None:
    codec = Heatmap((256, 192))
    xy = rng.uniform((0, 0), (191, 255), (100, 17, 2))
    decoded, _ = codec.decode(codec.encode(xy, visible(100, 17)).arrays)
    assert np.linalg.norm(decoded - xy, axis=-1).mean() < 0.3  # a uniform error of half a cell would be 1.5 pixels


def test_argmax_alone_is_off_by_up_to_half_a_cell(rng: np.random.Generator) -> None:
    codec = Heatmap(INPUT_HW, refine="none")
    xy = rng.uniform(0, np.array(INPUT_HW[::-1]) - 1, (50, 17, 2))
    error = np.abs(codec.decode(codec.encode(xy, visible(50, 17)).arrays)[0] - xy).max()
    assert 0.45 * codec.stride < error <= 0.5 * codec.stride + 1e-6


def test_dark_beats_argmax_on_noisy_maps(rng: np.random.Generator) -> None:
    xy = rng.uniform(20, np.array(INPUT_HW[::-1]) - 21, (20, 17, 2))
    maps = Heatmap(INPUT_HW).encode(xy, visible(20, 17)).arrays["heatmaps"]
    noisy = {"heatmaps": maps + rng.normal(0, 0.02, maps.shape).astype(np.float32)}
    dark, argmax = (np.linalg.norm(Heatmap(INPUT_HW, refine=refine).decode(noisy)[0] - xy, axis=-1).mean()
                    for refine in ("dark", "none"))
    assert dark < 0.05 * 4 < 0.3 * 4 < argmax  # of a cell of 4 pixels


@each_codec
def test_trap_heatmap_centre_rounded_so_that_a_flip_shifts_it(codec: Codec, rng: np.random.Generator) -> None:
    xy = rng.uniform(0, np.array(INPUT_HW[::-1]) - 1, (5, 17, 2))
    target, flipped = codec.encode(xy, visible(5, 17)), codec.encode(mirrored(xy), visible(5, 17))
    for name, array in target.arrays.items():
        turned = array[..., ::-1] if name == "heatmaps" else array * [-1, 1]
        np.testing.assert_allclose(flipped.arrays[name], turned, atol=1e-5)


@each_codec
def test_decoding_a_mirrored_output_gives_the_mirrored_keypoint(codec: Codec, rng: np.random.Generator) -> None:
    xy = rng.uniform(0, np.array(INPUT_HW[::-1]) - 1, (5, 17, 2))
    outputs = codec.encode(xy, visible(5, 17)).arrays
    turned = {name: np.ascontiguousarray(array[..., ::-1]) if name == "heatmaps" else array * [-1, 1]
              for name, array in outputs.items()}
    np.testing.assert_allclose(codec.decode(turned)[0], mirrored(codec.decode(outputs)[0]), atol=1e-3)


@each_codec
def test_trap_visibility_0_is_not_labelled_and_1_is_labelled_but_hidden(codec: Codec) -> None:
    xy = np.full((1, 3, 2), 50.0)
    np.testing.assert_array_equal(codec.encode(xy, np.array([[0, 1, 2]])).weight, [[0, 1, 1]])


@each_codec
def test_trap_a_keypoint_at_0_is_not_missing(codec: Codec) -> None:
    xy = np.array([[[0.0, 60.0], [60.0, 0.0], [0.0, 0.0]]])
    target = codec.encode(xy, visible(1, 3))
    np.testing.assert_array_equal(target.weight, [[1, 1, 1]])
    half_a_cell = codec.stride / 2 if isinstance(codec, Heatmap) else 1e-4
    np.testing.assert_allclose(codec.decode(target.arrays)[0], xy, atol=half_a_cell)


@each_codec
def test_trap_weights_do_not_alias_the_visibility(codec: Codec, rng: np.random.Generator) -> None:
    xy, visibility = rng.uniform(-300, 300, (2, 5, 2)), rng.integers(0, 3, (2, 5))
    before = xy.copy(), visibility.copy()
    target = codec.encode(xy, visibility)
    target.weight[:] = 7
    for array in target.arrays.values():
        array[:] = 7
    np.testing.assert_array_equal(xy, before[0])
    np.testing.assert_array_equal(visibility, before[1])


@each_codec
def test_decode_leaves_the_outputs_alone(codec: Codec, rng: np.random.Generator) -> None:
    outputs = codec.encode(rng.uniform(10, 80, (2, 5, 2)), visible(2, 5)).arrays
    for array in outputs.values():
        array[0, 0] = np.nan
    before = {name: array.copy() for name, array in outputs.items()}
    codec.decode(outputs)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, before[name])


@each_codec
def test_an_unlabelled_keypoint_without_a_position_weighs_0_and_teaches_no_nan(codec: Codec) -> None:
    target = codec.encode(np.array([[[np.nan, np.nan], [30.0, 40.0]]]), np.array([[0, 2]]))
    np.testing.assert_array_equal(target.weight, [[0, 1]])
    assert all(np.isfinite(array).all() for array in target.arrays.values())


def test_a_keypoint_out_of_reach_weighs_0_and_leaves_an_empty_map() -> None:
    codec = Heatmap(INPUT_HW)
    just_outside, far_outside = [-8.0, 60.0], [-40.0, 60.0]  # reach: 3 sigma of 2 cells of 4 pixels, 24 pixels
    target = codec.encode(np.array([[just_outside, far_outside]]), visible(1, 2))
    np.testing.assert_array_equal(target.weight, [[1, 0]])
    assert target.arrays["heatmaps"][0, 0].max() > 0.1
    assert target.arrays["heatmaps"][0, 1].max() == 0


def test_regression_keeps_a_keypoint_outside_the_input() -> None:
    codec = build_codec("regression", INPUT_HW, {})
    xy = np.array([[[-40.0, 160.0]]])
    target = codec.encode(xy, visible(1, 1))
    assert target.weight[0, 0] == 1
    np.testing.assert_allclose(codec.decode(target.arrays)[0], xy, atol=1e-4)


def test_regression_targets_are_fractions_from_the_centre() -> None:
    edges = np.array([[[-0.5, -0.5], [95.5, 127.5], [47.5, 63.5]]])
    arrays = build_codec("regression", INPUT_HW, {}).encode(edges, visible(1, 3)).arrays
    np.testing.assert_allclose(arrays["coordinates"], [[[-0.5, -0.5], [0.5, 0.5], [0, 0]]], atol=1e-7)


def test_the_peak_of_a_map_is_1_at_a_cells_centre_and_the_spread_is_sigma() -> None:
    codec = Heatmap(INPUT_HW)
    maps = codec.encode(np.array([[[4 * 10 + 1.5, 4 * 12 + 1.5]]]), visible(1, 1)).arrays["heatmaps"][0, 0]
    assert maps[12, 10] == 1
    np.testing.assert_allclose(maps[12, 12], np.exp(-0.5), rtol=1e-6)  # one sigma is two cells
    np.testing.assert_allclose(maps[16, 10], np.exp(-2), rtol=1e-6)


def test_ties_go_to_the_lowest_index() -> None:
    maps = np.zeros((1, 1, 32, 24), np.float32)
    maps[0, 0, 10, 5] = maps[0, 0, 10, 15] = maps[0, 0, 20, 2] = 0.5
    xy, scores = Heatmap(INPUT_HW, refine="none").decode({"heatmaps": maps})
    np.testing.assert_array_equal(xy, [[[4 * 5 + 1.5, 4 * 10 + 1.5]]])
    assert scores[0, 0] == 0.5


@pytest.mark.parametrize("refine", ["dark", "none"])
def test_nan_never_wins_and_a_map_of_nothing_else_scores_0(refine: str) -> None:
    codec = Heatmap(INPUT_HW, refine=refine)  # type: ignore[arg-type]
    maps = codec.encode(np.array([[[50.0, 60.0]] * 4]), visible(1, 4)).arrays["heatmaps"]
    maps[0, 1, 0, 0] = np.nan
    maps[0, 2] = np.nan
    maps[0, 3] = 0
    xy, scores = codec.decode({"heatmaps": maps})
    assert np.isfinite(xy).all()
    np.testing.assert_allclose(xy[0, 1], xy[0, 0])
    np.testing.assert_allclose(scores, [[scores[0, 0], scores[0, 0], 0, 0]])


@given(maps=arrays(np.float32, (1, 2, 8, 6), elements=st.floats(width=32)))
def test_whatever_a_network_says_decodes_to_finite_numbers(maps: Float) -> None:
    xy, scores = Heatmap((32, 24)).decode({"heatmaps": maps})
    assert np.isfinite(xy).all()
    assert np.isfinite(scores).all()


@each_codec
def test_a_codec_survives_json(codec: Codec) -> None:
    assert codec_from_json(codec_to_json(codec), INPUT_HW) == codec


@pytest.mark.parametrize(("name", "options", "message"), [
    ("heatmaps", {}, "did you mean 'heatmap'"),
    ("heatmap", {"sigm": 2}, "did you mean 'sigma'"),
    ("heatmap", {"input_hw": (64, 64)}, "no option"),
    ("heatmap", {"stride": 7}, "does not divide"),
    ("heatmap", {"stride": 0}, "does not divide"),
    ("heatmap", {"sigma": 0}, "above 0"),
    ("heatmap", {"sigma": float("nan")}, "above 0"),
    ("heatmap", {"refine": "drak"}, "expected dark or none"),
    ("heatmap", {"sigma": float("inf")}, "above 0"),
    ("heatmap", {"sigma": "2"}, "expected a number"),
    ("heatmap", {"stride": 2.5}, "expected a whole number"),
    ("heatmap", {"stride": True}, "expected a whole number"),
    ("regression", {"sigma": 2}, "no option"),
])
def test_a_codec_that_cannot_be_built_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_codec(name, INPUT_HW, options)


# mmpose's cells are input pixels / 4 without the half pixel; in cells, both definitions are the same.


def oracle_maps(real_data: Path) -> tuple[dict[str, Float], Heatmap, np.ndarray[Any, np.dtype[np.bool_]]]:
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    case = {name.split("/")[1]: archive[name] for name in archive.files if name.startswith("MSRAHeatmap_unbiased/")}
    case["cells"] = archive["keypoints"] / 4
    return case, Heatmap((256, 192)), case["keypoint_weights"][0] > 0


def test_encoding_agrees_with_mmposes_unbiased_maps(real_data: Path) -> None:
    case, codec, labelled = oracle_maps(real_data)
    target = codec.encode(codec.to_pixels(case["cells"]), 2 * labelled[None].astype(np.int64))
    np.testing.assert_array_equal(target.weight, case["keypoint_weights"])
    np.testing.assert_allclose(target.arrays["heatmaps"][0, labelled], case["heatmaps"][labelled], atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "noisy_"])
def test_decoding_agrees_with_mmposes_dark(real_data: Path, prefix: str) -> None:
    case, codec, labelled = oracle_maps(real_data)
    xy, scores = codec.decode({"heatmaps": case[f"{prefix}heatmaps"].astype(np.float32)[None]})
    np.testing.assert_allclose(codec.to_cells(xy[0, labelled]) * 4, case[f"{prefix}decoded_keypoints"][0, labelled],
                               atol=1e-4)
    np.testing.assert_allclose(scores[0, labelled], case[f"{prefix}decoded_scores"][0, labelled], atol=1e-6)
