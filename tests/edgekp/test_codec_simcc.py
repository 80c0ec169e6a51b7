"""SimCC: right to half a bin, equal to mmpose for each smoothing, and what a mirrored input does to the bins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs import SimCC, build_codec
from edgekp.errors import RecipeError
from edgekp.sample import Float, Int

INPUT_HW = (128, 96)
CODECS = [SimCC(INPUT_HW), SimCC(INPUT_HW, split=3.0), SimCC(INPUT_HW, split=1.0, sigma_xy=(2.0, 3.0)),
          SimCC(INPUT_HW, smoothing="normalised_gaussian"), SimCC(INPUT_HW, smoothing="standard")]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=str)


def visible(xy: Float) -> Int:
    return np.full(xy.shape[:2], 2)


@each_codec
def test_decode_returns_what_was_encoded_to_half_a_bin(codec: SimCC, rng: np.random.Generator) -> None:
    xy = rng.uniform((0, 0), (95, 127), (200, 17, 2))
    target = codec.encode(xy, visible(xy))
    decoded, scores = codec.decode(target.arrays)
    bound = 0.5 / codec.split
    assert np.abs(decoded - xy).max() <= bound + 1e-9
    spread_of_mean = bound / np.sqrt(3 * 200 * 17)  # errors are even over a bin
    assert np.abs((decoded - xy).mean((0, 1))).max() < min(4 * spread_of_mean, 0.02)
    assert (target.weight == 1).all()
    assert (scores > 0).all()


@each_codec
def test_the_centre_of_bin_b_is_b_through_split(codec: SimCC) -> None:
    bins_x = np.arange(0, 90 * int(codec.split), 7)
    xy = np.stack([bins_x, np.full(len(bins_x), 3)], -1)[None] / codec.split
    profiles = codec.encode(xy, visible(xy)).arrays
    np.testing.assert_array_equal(profiles["simcc_x"].argmax(-1)[0], bins_x)
    np.testing.assert_array_equal(profiles["simcc_y"].argmax(-1)[0], 3)
    np.testing.assert_allclose(codec.decode(profiles)[0], xy, atol=1e-12)


@each_codec
def test_a_flip_reverses_the_bins_and_shifts_them_by_split_minus_1(codec: SimCC, rng: np.random.Generator) -> None:
    """Bin b lies at b / split, mirrored at W - 1 - b / split; the reversed bins have it at W - (b + 1) / split."""
    split = int(codec.split)
    xy = rng.integers((10 * split, 10 * split), (80 * split, 100 * split), (5, 17, 2)) / codec.split
    mirrored_xy = xy * [-1, 1] + [95, 0]
    arrays, expected = (codec.encode(points, visible(points)).arrays for points in (xy, mirrored_xy))
    reversed_xy, _ = codec.decode({**arrays, "simcc_x": arrays["simcc_x"][..., ::-1]})
    np.testing.assert_allclose(reversed_xy - mirrored_xy, np.broadcast_to([(split - 1) / split, 0], xy.shape),
                               atol=1e-9)
    turned = np.roll(arrays["simcc_x"][..., ::-1], -(split - 1), -1)
    np.testing.assert_allclose(turned, expected["simcc_x"], atol=1e-6)
    np.testing.assert_array_equal(arrays["simcc_y"], expected["simcc_y"])


def test_gaussians_have_the_peak_1_or_the_sum_1_and_standard_smoothing_always_the_sum_1() -> None:
    xy = np.array([[[40.0, 60.0]]])
    for name in ("simcc_x", "simcc_y"):
        peak, whole, standard = (SimCC(INPUT_HW, smoothing=smoothing).encode(xy, visible(xy)).arrays[name][0, 0]
                                 for smoothing in ("gaussian", "normalised_gaussian", "standard"))
        assert peak.max() == 1
        np.testing.assert_allclose(whole.sum(), 1, atol=1e-5)
        np.testing.assert_allclose(whole / whole.max(), peak, atol=1e-6)
        np.testing.assert_allclose(standard.sum(), 1, atol=1e-5)
        assert standard.max() == np.float32(0.9)
        assert len(np.unique(standard)) == 2


def test_by_default_sigma_follows_rtmposes_rule() -> None:
    np.testing.assert_allclose(SimCC((256, 192)).sigma_xy, (4.9, 5.66), atol=0.005)  # what its recipes say
    profiles = SimCC((256, 192), sigma_xy=(3.0, 5.0)).encode(np.array([[[50.0, 50.0]]]), np.array([[2]])).arrays
    np.testing.assert_allclose(profiles["simcc_x"][0, 0, 100 + 3], np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(profiles["simcc_y"][0, 0, 100 + 5], np.exp(-0.5), rtol=1e-6)


@pytest.mark.parametrize(("smoothing", "weights"), [("gaussian", [1, 1, 0, 1, 0]), ("standard", [1, 0, 0, 0, 0])])
def test_what_leaves_nothing_on_the_bins_weighs_0(smoothing: Any, weights: list[int]) -> None:
    codec = SimCC(INPUT_HW, smoothing=smoothing, sigma_xy=(10.0, 10.0))  # reach of the Gaussians: 30 bins, 15 pixels
    xy = np.array([[[95.5, 0.0], [-15.1, 60.0], [-15.4, 60.0], [50.0, 142.6], [50.0, 142.9]]])
    target = codec.encode(xy, visible(xy))
    np.testing.assert_array_equal(target.weight, [weights])
    for array in target.arrays.values():
        np.testing.assert_array_equal(array.any(-1), [np.array(weights, dtype=bool)])


@each_codec
def test_an_unlabelled_keypoint_without_a_position_weighs_0_and_teaches_no_nan(codec: SimCC) -> None:
    target = codec.encode(np.array([[[np.nan, np.nan], [1e300, 3.0], [30.0, 40.0]]]), np.array([[0, 2, 1]]))
    np.testing.assert_array_equal(target.weight, [[0, 0, 1]])
    assert all(np.isfinite(array).all() for array in target.arrays.values())


def test_the_score_is_the_lower_peak_nan_never_wins_and_ties_go_to_the_lowest_index() -> None:
    codec = SimCC((8, 8))
    x, y = np.zeros((1, 4, 16), np.float32), np.zeros((1, 4, 16), np.float32)
    x[0, 0, 4], y[0, 0, 6] = 0.75, 0.5
    x[0, 1, [4, 9]], y[0, 1, [6, 7]] = 0.5, 2.0
    x[0, 2, 4], y[0, 2, 6] = 0.5, 0.5
    x[0, 2, 2] = y[0, 2, 1] = np.nan
    x[0, 3] = y[0, 3] = np.nan
    xy, scores = codec.decode({"simcc_x": x, "simcc_y": y})
    np.testing.assert_array_equal(xy, [[[2, 3], [2, 3], [2, 3], [0, 0]]])
    np.testing.assert_array_equal(scores, np.float32([[0.5, 0.5, 0.5, 0]]))


@given(bins=arrays(np.float32, (2, 1, 3, 16), elements=st.floats(width=32)))
def test_whatever_a_network_says_decodes_to_finite_numbers(bins: Float) -> None:
    xy, scores = SimCC((8, 8)).decode({"simcc_x": bins[0], "simcc_y": bins[1]})
    assert np.isfinite(xy).all()
    assert np.isfinite(scores).all()


def test_the_manifest_says_the_sigmas_that_were_used() -> None:
    assert build_codec("simcc", INPUT_HW, {"sigma_xy": list(SimCC(INPUT_HW).sigma_xy)}) == SimCC(INPUT_HW)


@pytest.mark.parametrize(("options", "message"), [
    ({"split": 0.5}, "1 or more bins"), ({"split": "2"}, "1 or more bins"), ({"split": True}, "1 or more bins"),
    ({"smoothing": "gauss"}, "expected gaussian or normalised_gaussian or standard"),
    ({"sigma_xy": 6.0}, "two numbers"), ({"sigma_xy": 0}, "two numbers"), ({"sigma_xy": [6.0]}, "two numbers"),
    ({"sigma_xy": [6.0, 0.0]}, "above 0"), ({"sigma_xy": ["6", 6]}, "two numbers"),
    ({"sigma_xy": [float("inf"), 6.0]}, "two numbers"), ({"label_smoothing": 1.0}, "below 1"),
    ({"label_smoothing": -0.1}, "from 0"), ({"sigma": 6.0}, "did you mean 'sigma_xy'")])
def test_a_codec_that_cannot_be_built_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_codec("simcc", INPUT_HW, options)


# float32 labels near 0.07 (normalised) differ in their last bit, 2**-27; the others are equal, and so is the argmax.
MMPOSE = [("SimCC_gaussian", SimCC((256, 192), smoothing="normalised_gaussian", sigma_xy=(6.0, 6.0)), 2**-27),
          ("SimCC_gaussian_xy", SimCC((256, 192), sigma_xy=(4.9, 5.66)), 0),
          ("SimCC_standard", SimCC((256, 192), split=3.0, smoothing="standard"), 0)]


@pytest.mark.parametrize(("case", "codec", "atol"), MMPOSE, ids=[case for case, _, _ in MMPOSE])
def test_encoding_and_decoding_agree_with_mmpose(real_data: Path, case: str, codec: SimCC, atol: float) -> None:
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    oracle = {name.split("/")[1]: archive[name] for name in archive.files if name.startswith(f"{case}/")}
    target = codec.encode(archive["keypoints"], archive["keypoints_visible"].astype(np.int64))
    np.testing.assert_array_equal(target.weight, oracle["keypoint_weights"])
    labels = {name: oracle[f"keypoint_{name[-1]}_labels"] for name in codec.outputs}
    for name, array in labels.items():
        np.testing.assert_allclose(target.arrays[name], array, rtol=0, atol=atol)
    xy, scores = codec.decode(labels)
    learnt = target.weight > 0  # mmpose answers (-1, -1) bins where nothing is above 0
    np.testing.assert_array_equal(xy[learnt].astype(np.float32), oracle["decoded_keypoints"][learnt])
    np.testing.assert_array_equal(scores, oracle["decoded_scores"])
