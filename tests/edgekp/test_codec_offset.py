"""Heatmap and offsets: every cell in reach leads to the keypoint, so that the argmax need not be the nearest one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs import HeatmapOffset, build_codec
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int

INPUT_HW = (128, 96)
MAP_HW = (32, 24)
REACH = 6.0  # cells: 3 sigma of 2
CODEC = HeatmapOffset(INPUT_HW)
EXACT_PX = 4 * REACH * 2**-24  # an offset is a float32 of at most 6 cells; half its last bit, in pixels


def visible(xy: Float) -> Int:
    return np.full(xy.shape[:2], 2)


def cell_centers() -> Float:
    """(32, 24, 2) x and y of every cell's centre, in input pixels."""
    rows, columns = np.indices(MAP_HW)
    return np.stack([columns, rows], -1) * 4 + 1.5


def test_decode_returns_what_was_encoded_even_outside_the_input(rng: np.random.Generator) -> None:
    xy = rng.uniform((-20, -20), (115, 147), (200, 17, 2))
    target = CODEC.encode(xy, visible(xy))
    decoded, scores = CODEC.decode(target.arrays)
    assert (target.weight == 1).all()
    np.testing.assert_allclose(decoded, xy, atol=EXACT_PX)
    assert np.abs((decoded - xy).mean((0, 1))).max() < 1e-6  # no bias to one side
    inside = ((xy > 0) & (xy < (95, 127))).all(-1)
    assert scores[inside].min() >= np.exp(-2 * 0.5**2 / (2 * 2**2)) - 1e-6  # half a cell off along both axes


def test_every_cell_in_reach_leads_to_its_keypoint_and_all_others_say_nothing(rng: np.random.Generator) -> None:
    xy = rng.uniform((0, 0), (95, 127), (2, 3, 2))
    offsets = CODEC.encode(xy, visible(xy)).arrays["offsets"].reshape(2, 3, 2, *MAP_HW).transpose(0, 1, 3, 4, 2)
    distance = xy[:, :, None, None] - cell_centers()
    near = (np.abs(distance) <= 4 * REACH).all(-1)
    np.testing.assert_allclose((4 * offsets)[near], distance[near], atol=EXACT_PX)
    assert not offsets[~near].any()
    assert near.any((2, 3)).all()
    assert not near.all((2, 3)).any()


def test_channels_2k_and_2k_plus_1_are_x_and_y_of_keypoint_k() -> None:
    offsets = CODEC.encode(np.array([[[41.5, 61.5], [42.5, 64.5]]]), np.array([[2, 2]])).arrays["offsets"]
    assert offsets.shape == (1, 4, *MAP_HW)
    np.testing.assert_allclose(offsets[0, :, 15, 10], [0, 0, 0.25, 0.75])  # the centre of cell (15, 10) is (41.5, 61.5)


def test_the_heatmaps_are_those_of_the_heatmap_codec(rng: np.random.Generator) -> None:
    xy = rng.uniform((-40, -40), (135, 167), (5, 17, 2))
    visibility = rng.integers(0, 3, (5, 17))
    alone = build_codec("heatmap", INPUT_HW, {}).encode(xy, visibility)
    target = CODEC.encode(xy, visibility)
    np.testing.assert_array_equal(target.arrays["heatmaps"], alone.arrays["heatmaps"])
    np.testing.assert_array_equal(target.weight, alone.weight)


def test_an_argmax_on_the_wrong_cell_does_not_shift_the_keypoint(rng: np.random.Generator) -> None:
    """Why there are offsets: noise moves the argmax by cells, but each cell in reach knows its own way."""
    xy = rng.uniform((20, 20), (75, 107), (20, 17, 2))
    arrays = CODEC.encode(xy, visible(xy)).arrays
    noisy = arrays["heatmaps"] + rng.normal(0, 0.1, arrays["heatmaps"].shape).astype(np.float32)
    argmax, _ = build_codec("heatmap", INPUT_HW, {"refine": "none"}).decode({"heatmaps": noisy})
    decoded, _ = CODEC.decode({**arrays, "heatmaps": noisy})
    assert np.abs(argmax - xy).max() > 4
    np.testing.assert_allclose(decoded, xy, atol=EXACT_PX)


def test_what_is_not_labelled_or_out_of_reach_weighs_0_and_leaves_empty_maps() -> None:
    xy = np.array([[[50.0, 60.0], [-40.0, 60.0], [np.nan, np.nan]]])  # reach: 24 pixels beyond the border
    target = CODEC.encode(xy, np.array([[0, 2, 0]]))
    np.testing.assert_array_equal(target.weight, [[0, 0, 0]])
    assert all(not array.any() for array in target.arrays.values())


def test_nan_never_wins_ties_go_to_the_lowest_index_and_offsets_that_are_no_numbers_count_as_0() -> None:
    maps, offsets = np.zeros((1, 4, *MAP_HW), np.float32), np.zeros((1, 8, *MAP_HW), np.float32)
    maps[0, 0, 4, 5], maps[0, 0, 9, 9] = 0.5, np.nan
    maps[0, 1, 4, 5] = maps[0, 1, 4, 7] = maps[0, 1, 8, 2] = 0.5
    maps[0, 2] = np.nan
    maps[0, 3, 4, 5] = 1
    offsets[0, 0:4, 4, 5] = 0.25
    offsets[0, 6:, 4, 5] = np.nan, np.inf
    xy, scores = CODEC.decode({"heatmaps": maps, "offsets": offsets})
    np.testing.assert_allclose(xy, [[[22.5, 18.5], [22.5, 18.5], [1.5, 1.5], [21.5, 17.5]]])
    np.testing.assert_array_equal(scores, [[0.5, 0.5, 0, 1]])


@given(maps=arrays(np.float32, (1, 2, 8, 6), elements=st.floats(width=32)),
       offsets=arrays(np.float32, (1, 4, 8, 6), elements=st.floats(width=32)))
def test_whatever_a_network_says_decodes_to_finite_numbers(maps: Float, offsets: Float) -> None:
    xy, scores = HeatmapOffset((32, 24)).decode({"heatmaps": maps, "offsets": offsets})
    assert np.isfinite(xy).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("options", "message"), [
    ({"stride": 7}, "does not divide"), ({"sigma": 0}, "above 0"), ({"refine": "dark"}, "no option .* 'refine'")])
def test_a_codec_that_cannot_be_built_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_codec("offset", INPUT_HW, options)
