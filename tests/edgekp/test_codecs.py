"""What every codec promises: what goes in comes out, mirrored or not, and only visibility says what counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from edgekp.codecs import CODECS, Codec, build_codec, codec_from_json, codec_to_json
from edgekp.errors import RecipeError
from edgekp.sample import Float

INPUT_HW = (128, 96)
FLOAT32 = 1e-4  # pixels: rounding of coordinates up to 128
HALF_A_CELL = 2.0  # pixels, at the stride of 4 that is every codec's default
DARK = 0.01  # pixels: its kernel leaves out erfc(2.75) = 1e-4 of a blurred value, against a curvature of 1/8 per cell^2


@dataclass(frozen=True)
class Case:
    """A codec and how far from the keypoint, in pixels, it may decode what it encoded."""

    name: str
    bound_px: float  # away from the border
    border_px: float  # anywhere inside the input
    options: dict[str, Any] = field(default_factory=dict)
    mirrors: bool = True  # a mirrored output decodes to the mirrored keypoint; legacy conventions do not hold that

    @property
    def codec(self) -> Codec:
        return build_codec(self.name, INPUT_HW, self.options)


CASES = [
    Case("heatmap", DARK, HALF_A_CELL),
    Case("heatmap", DARK, 1.0, {"stride": 2, "sigma": 1.5}),
    Case("heatmap", DARK, 4.0, {"stride": 8, "sigma": 1}),
    Case("heatmap", DARK, 4.0, {"sigma": 3.0, "peaks": 3}),  # DARK's blur pulls a wide Gaussian away from the border
    Case("heatmap", HALF_A_CELL, HALF_A_CELL, {"refine": "none"}),
    Case("heatmap", 1.0, HALF_A_CELL, {"refine": "quarter"}),  # a quarter of a cell
    Case("heatmap", 0.05, HALF_A_CELL, {"refine": "quadratic"}),  # test_codec_heatmaps.py has the formula
    Case("msra", HALF_A_CELL, 3.5, mirrors=False),  # the last cell stands for 3.5 pixels before the input's end
    Case("udp", DARK, 4.2),  # within half a cell of the border it says half a cell outside it, like mmpose's
    Case("megvii", HALF_A_CELL, 7.5, mirrors=False),  # the border's mirror image raises its neighbour above it
    Case("offset", FLOAT32, FLOAT32),
    Case("udp_combined", FLOAT32, FLOAT32),
    Case("integral", FLOAT32, 2.2),  # half a cell and the 0.05 cells that no mean comes closer to the border
    Case("simcc", 0.25, 0.5, mirrors=False),  # half a bin, and where no bin is half a pixel
    Case("regression", FLOAT32, FLOAT32),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.options}")
each_mirroring_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case.mirrors], ids=lambda case: f"{case.name}-{case.options}")


def visible(n: int, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full((n, k), 2)


def mirrored(xy: Float) -> Float:
    return xy * [-1, 1] + [INPUT_HW[1] - 1, 0]


def mirrored_outputs(outputs: dict[str, Float]) -> dict[str, Float]:
    """Maps turn around, and what is measured along x changes its sign."""
    turned = {name: array * [-1, 1] if name == "coordinates" else array[..., ::-1].copy()
              for name, array in outputs.items()}
    for name, first_x, step in (("offsets", 0, 2), ("discs_and_offsets", 1, 3)):
        if name in turned:
            turned[name][:, first_x::step] *= -1
    return turned


def test_every_codec_is_tested_here() -> None:
    assert {case.name for case in CASES} == set(CODECS)


@each_case
def test_decode_returns_what_was_encoded_without_a_bias(case: Case, rng: np.random.Generator) -> None:
    """Over 32 pixels in even steps, whole cells of every codec, whatever is rounded cancels in the mean."""
    steps = (np.arange(512) + 0.5) / 16
    xy = np.stack([31.5 + steps, 47.5 + rng.permutation(steps)], -1).reshape(32, 16, 2)
    decoded, _ = case.codec.decode(case.codec.encode(xy, visible(32, 16)).arrays)
    error = decoded - xy
    assert np.abs(error).max() <= case.bound_px
    assert np.abs(error.mean((0, 1))).max() < 1e-4


@each_case
def test_a_keypoint_at_the_border_comes_back_near_it(case: Case, rng: np.random.Generator) -> None:
    xy = rng.uniform(-0.5, np.array(INPUT_HW[::-1]) - 0.5, (100, 17, 2))
    decoded, _ = case.codec.decode(case.codec.encode(xy, visible(100, 17)).arrays)
    assert np.abs(decoded - xy).max() <= case.border_px + FLOAT32


@each_mirroring_case
def test_trap_heatmap_centre_rounded_so_that_a_flip_shifts_it(case: Case, rng: np.random.Generator) -> None:
    xy = rng.uniform(0, np.array(INPUT_HW[::-1]) - 1, (5, 17, 2))
    target = case.codec.encode(xy, visible(5, 17))
    flipped = case.codec.encode(mirrored(xy), visible(5, 17))
    for name, array in mirrored_outputs(target.arrays).items():
        np.testing.assert_allclose(flipped.arrays[name], array, atol=1e-5)


@each_mirroring_case
def test_decoding_a_mirrored_output_gives_the_mirrored_keypoint(case: Case, rng: np.random.Generator) -> None:
    xy = rng.uniform(0, np.array(INPUT_HW[::-1]) - 1, (5, 17, 2))
    outputs = case.codec.encode(xy, visible(5, 17)).arrays
    turned = case.codec.decode(mirrored_outputs(outputs))[0]
    np.testing.assert_allclose(turned, mirrored(case.codec.decode(outputs)[0]), atol=1e-3)


@each_case
def test_trap_visibility_0_is_not_labelled_and_1_is_labelled_but_hidden(case: Case) -> None:
    xy = np.full((1, 3, 2), 50.0)
    np.testing.assert_array_equal(case.codec.encode(xy, np.array([[0, 1, 2]])).weight, [[0, 1, 1]])


@each_case
def test_trap_a_keypoint_at_0_is_not_missing(case: Case) -> None:
    xy = np.array([[[0.0, 60.0], [60.0, 0.0], [0.0, 0.0]]])
    target = case.codec.encode(xy, visible(1, 3))
    np.testing.assert_array_equal(target.weight, [[1, 1, 1]])
    np.testing.assert_allclose(case.codec.decode(target.arrays)[0], xy, atol=case.border_px + FLOAT32)


@each_case
def test_trap_weights_do_not_alias_the_visibility(case: Case, rng: np.random.Generator) -> None:
    xy, visibility = rng.uniform(-300, 300, (2, 5, 2)), rng.integers(0, 3, (2, 5))
    before = xy.copy(), visibility.copy()
    target = case.codec.encode(xy, visibility)
    target.weight[:] = 7
    for array in target.arrays.values():
        array[:] = 7
    np.testing.assert_array_equal(xy, before[0])
    np.testing.assert_array_equal(visibility, before[1])


@each_case
def test_decode_leaves_the_outputs_alone(case: Case, rng: np.random.Generator) -> None:
    outputs = case.codec.encode(rng.uniform(10, 80, (2, 5, 2)), visible(2, 5)).arrays
    for array in outputs.values():
        array[0, 0] = np.nan
    before = {name: array.copy() for name, array in outputs.items()}
    case.codec.decode(outputs)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, before[name])


@each_case
def test_an_unlabelled_keypoint_without_a_position_weighs_0_and_teaches_no_nan(case: Case) -> None:
    target = case.codec.encode(np.array([[[np.nan, np.nan], [30.0, 40.0]]]), np.array([[0, 2]]))
    np.testing.assert_array_equal(target.weight, [[0, 1]])
    assert all(np.isfinite(array).all() for array in target.arrays.values())


@each_case
def test_a_batch_decodes_to_what_its_persons_decode_to_alone(case: Case, rng: np.random.Generator) -> None:
    outputs = case.codec.encode(rng.uniform(10, 80, (3, 5, 2)), visible(3, 5)).arrays
    noisy = {name: array + rng.normal(0, 0.01, array.shape).astype(np.float32) for name, array in outputs.items()}
    together = case.codec.decode(noisy)
    for person in range(3):
        alone = case.codec.decode({name: array[person:person + 1] for name, array in noisy.items()})
        for all_of_them, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(all_of_them[person], one[0], atol=1e-5)


@each_case
def test_a_batch_of_nobody_is_encoded_and_decoded(case: Case) -> None:
    target = case.codec.encode(np.zeros((0, 17, 2)), visible(0, 17))
    xy, scores = case.codec.decode(target.arrays)
    assert (target.weight.shape, xy.shape, scores.shape) == ((0, 17), (0, 17, 2), (0, 17))


@each_case
def test_types_are_those_of_the_table_of_shapes(case: Case) -> None:
    target = case.codec.encode([[[50, 60]]] * np.ones((1, 4, 1), np.int32), visible(1, 4).astype(np.uint8))
    assert set(target.arrays) == set(case.codec.outputs)
    assert {array.dtype for array in (*target.arrays.values(), target.weight)} == {np.dtype(np.float32)}
    xy, scores = case.codec.decode({name: array.astype(np.float16) for name, array in target.arrays.items()})
    assert (xy.dtype, scores.dtype) == (np.float64, np.float32)


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


@each_case
def test_a_codec_survives_json(case: Case) -> None:
    assert codec_from_json(codec_to_json(case.codec), INPUT_HW) == case.codec


@pytest.mark.parametrize(("name", "options", "message"), [
    ("heatmaps", {}, "did you mean 'heatmap'"),
    ("heatmap", {"sigm": 2}, "did you mean 'sigma'"),
    ("heatmap", {"input_hw": (64, 64)}, "no option"),
    ("heatmap", {"stride": 7}, "does not divide"),
    ("heatmap", {"stride": 0}, "does not divide"),
    ("heatmap", {"sigma": 0}, "above 0"),
    ("heatmap", {"sigma": float("nan")}, "above 0"),
    ("heatmap", {"sigma": float("inf")}, "above 0"),
    ("heatmap", {"sigma": "2"}, "expected a number"),
    ("heatmap", {"stride": 2.5}, "expected a whole number"),
    ("heatmap", {"stride": True}, "expected a whole number"),
    ("heatmap", {"refine": "drak"}, "expected dark, quadratic, quarter or none"),
    ("heatmap", {"peaks": 0}, "expected a whole number above 0"),
    ("heatmap", {"peaks": 2.0}, "expected a whole number above 0"),
    ("msra", {"stride": 7}, "does not divide"),
    ("msra", {"sigma": -1}, "above 0"),
    ("udp", {"stride": 96}, "does not divide"),
    ("udp", {"stride": 32, "sigma": 0}, "above 0"),
    ("megvii", {"stride": 7}, "does not divide"),
    ("megvii", {"kernel_size": 12}, "expected an odd number"),
    ("megvii", {"kernel_size": 9}, "from 11 on"),
    ("megvii", {"kernel_size": 11.0}, "expected an odd number"),
    ("regression", {"sigma": 2}, "no option"),
])
def test_a_codec_that_cannot_be_built_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_codec(name, INPUT_HW, options)
