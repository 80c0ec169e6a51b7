"""Integral maps: the mean under the softmax is the keypoint, exactly, as far as a mean can reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs import Integral, build_codec
from edgekp.codecs.integral import EDGE
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int

INPUT_HW = (128, 96)
CODECS = [Integral(INPUT_HW), Integral(INPUT_HW, sigma=0.5), Integral(INPUT_HW, sigma=20.0),
          Integral(INPUT_HW, stride=8, sigma=1.0), Integral((32, 32), stride=16)]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=str)


def visible(xy: Float) -> Int:
    return np.full(xy.shape[:2], 2)


def last_xy(codec: Integral) -> Float:
    return np.array(codec.input_hw[::-1]) - 1.0


def mean_of(logits: Float) -> Float:
    """(2,) column and row: the mean over all cells, by definition."""
    weights = np.exp(logits.astype(np.float64))
    rows, columns = np.indices(logits.shape)
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@each_codec
def test_decode_returns_what_was_encoded(codec: Integral, rng: np.random.Generator) -> None:
    """Between the outermost cells' centres. Logits are float32: below 16, where they matter, they are off by 2**-21;
    a mean moves by that times its spread at most, half of the map."""
    border = (codec.stride - 1) / 2 + EDGE * codec.stride
    xy = rng.uniform(border, last_xy(codec) - border, (50, 17, 2))
    xy[0, 0], xy[0, 1] = border, last_xy(codec) - border
    target = codec.encode(xy, visible(xy))
    decoded, scores = codec.decode(target.arrays)
    np.testing.assert_allclose(decoded, xy, atol=2**-21 * last_xy(codec).max() / 2)
    assert np.abs((decoded - xy).mean((0, 1))).max() < 1e-5  # no bias to one side
    assert (target.weight == 1).all()
    halfway = np.exp(-0.5 * 2 * (0.5 / codec.sigma) ** 2)  # a keypoint between four cells
    assert ((scores > 0.95 * halfway) & (scores <= 1)).all()


@each_codec
def test_a_keypoint_beyond_the_outermost_centres_is_drawn_onto_them(codec: Integral) -> None:
    corners = np.array([[[-0.5, -0.5], last_xy(codec) + 0.5, [0.0, last_xy(codec)[1]]]])
    target = codec.encode(corners, visible(corners))
    decoded, _ = codec.decode(target.arrays)
    assert (target.weight == 1).all()
    assert np.abs(decoded - corners).max() <= (0.5 + EDGE) * codec.stride + 1e-4
    innermost = (codec.stride - 1) / 2 + EDGE * codec.stride
    np.testing.assert_allclose(decoded, np.clip(corners, innermost, last_xy(codec) - innermost), atol=1e-3)


def test_the_mean_is_that_of_the_definition(rng: np.random.Generator) -> None:
    codec = CODECS[0]
    maps = rng.normal(0, 3, (2, 3, 32, 24)).astype(np.float32)
    decoded, scores = codec.decode({"heatmaps": maps})
    for n, k in np.ndindex(2, 3):
        weights = np.exp(maps[n, k].astype(np.float64))
        np.testing.assert_allclose(decoded[n, k], 4 * mean_of(maps[n, k]) + 1.5, atol=1e-9)
        assert scores[n, k] == pytest.approx(min(1, weights.max() / weights.sum() * 2 * np.pi * 4))


def test_far_from_the_border_the_target_is_the_log_of_a_gaussian() -> None:
    logits = CODECS[0].encode(np.array([[[4 * 10 + 1.5, 4 * 12 + 1.5]]]), np.array([[2]])).arrays["heatmaps"][0, 0]
    np.testing.assert_allclose(logits[12, [10, 12, 6]], [0, -0.5, -2], atol=1e-5)  # one sigma is two cells
    np.testing.assert_allclose(logits[16, 12], -2.5, atol=1e-5)


def test_a_gaussian_that_the_border_cuts_off_would_be_biased() -> None:
    """Why the target's centre moves: at the border half of a Gaussian is left, whose mean lies 0.8 sigma inside."""
    xy = np.array([[[2.0, 64.0]]])
    centre = (2.0 - 1.5) / 4
    naive = -0.5 * ((np.arange(24) - centre) / 2) ** 2 + np.zeros((32, 1))
    moved = CODECS[0].encode(xy, np.array([[2]])).arrays["heatmaps"][0, 0]
    assert mean_of(naive)[0] - centre > 1.0
    assert mean_of(moved)[0] == pytest.approx(centre, abs=1e-5)


def test_what_is_not_labelled_or_outside_the_input_weighs_0_and_teaches_nothing() -> None:
    xy = np.array([[[50.0, 60.0], [-0.6, 60.0], [50.0, 127.6], [np.nan, np.nan], [-0.4, 127.4]]])
    target = CODECS[0].encode(xy, np.array([[0, 2, 2, 0, 1]]))
    np.testing.assert_array_equal(target.weight, [[0, 0, 0, 0, 1]])
    assert not target.arrays["heatmaps"][0, :4].any()
    assert np.isfinite(target.arrays["heatmaps"]).all()


def test_targets_are_numbers_that_float16_holds() -> None:
    """The golden vectors store them so; a Gaussian's logit falls without end, to 65,000 over 250 cells of sigma 0.7."""
    codec = Integral((1024, 1024), sigma=0.7)
    arrays = codec.encode(np.array([[[5.0, 5.0]]]), np.array([[2]])).arrays
    assert arrays["heatmaps"].min() == -40
    in_half = {"heatmaps": arrays["heatmaps"].astype(np.float16)}
    np.testing.assert_allclose(codec.decode(in_half)[0], [[[5.0, 5.0]]], atol=0.05)


def test_the_score_falls_as_the_map_spreads() -> None:
    codec = CODECS[0]
    y, x = np.mgrid[:32, :24]
    squared = (x - 11.5) ** 2 + (y - 15.5) ** 2
    maps = np.stack([-squared / (2 * sigma**2) for sigma in (1, 2, 3, 4)])[None]
    _, scores = codec.decode({"heatmaps": maps})
    np.testing.assert_allclose(scores[0], [1, 1, (2 / 3) ** 2, (2 / 4) ** 2], rtol=0.07)  # the peak lies between cells


def test_what_is_no_number_has_no_weight_and_a_map_of_nothing_else_says_the_middle_with_score_0() -> None:
    codec = CODECS[0]
    maps = codec.encode(np.array([[[50.0, 60.0]] * 3]), np.array([[2, 2, 2]])).arrays["heatmaps"]
    maps[0, 1, 0, :3] = np.nan, np.inf, -np.inf
    maps[0, 2] = np.nan
    xy, scores = codec.decode({"heatmaps": maps})
    np.testing.assert_allclose(xy[0], [[50, 60], [50, 60], [47.5, 63.5]], atol=1e-4)
    np.testing.assert_allclose(scores, [[scores[0, 0], scores[0, 0], 0]])


@given(maps=arrays(np.float32, (1, 2, 8, 6), elements=st.floats(width=32)))
def test_whatever_a_network_says_decodes_to_a_place_inside_the_input(maps: Float) -> None:
    xy, scores = Integral((32, 24)).decode({"heatmaps": maps})
    assert ((xy > 1.5 - 1e-9) & (xy < (21.5 + 1e-9, 29.5 + 1e-9))).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize(("options", "message"), [
    ({"stride": 7}, "does not divide"), ({"stride": 96}, "does not divide"), ({"stride": 32, "sigma": 0.4}, "0.5 or"),
    ({"sigma": 0}, "above 0"), ({"sigma": "2"}, "above 0"), ({"sgima": 2}, "did you mean 'sigma'")])
def test_a_codec_that_cannot_be_built_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_codec("integral", INPUT_HW, options)


def test_a_map_of_one_cell_has_no_mean_to_learn() -> None:
    with pytest.raises(RecipeError, match="leaves a side of one cell"):
        build_codec("integral", (64, 32), {"stride": 32})
