"""The decoding kernels say what the codecs say: on clean maps, on noise, at borders, on NaN, ties and infinities."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from deploy.runtime.gpu.decode_plan import LONGEST_REACH, plan_of
from edgekp.codecs import CODECS, Codec, Heatmap, HeatmapOffset, Integral, Regression, SimCC, build_codec
from edgekp.preprocess import transform
from edgekp.sample import Float
from tests.deploy.cuda.emulated import Emulator

ATOL_PX = 1e-3
N, K = 2, 12


def affines(rng: np.random.Generator, n: int = N) -> Float:
    """Crops of people of about 300 pixels, somewhere in a picture, turned a little."""
    turn = rng.normal(0, 0.1, (n, 2, 2)) + np.eye(2) * rng.uniform(1, 3, (n, 1, 1))
    return np.concatenate([turn, rng.uniform(-50, 400, (n, 2, 1))], -1)


def expected(codec: Codec, outputs: list[Float], crop_to_image: Float) -> Float:
    """(N, K, 3) by the codec itself."""
    keypoints_xy, scores = codec.decode(dict(zip(codec.outputs, outputs, strict=True)))
    return np.concatenate([transform(keypoints_xy, crop_to_image), scores[..., None]], -1)


def maps_of(codec: Any, rng: np.random.Generator) -> list[Float]:
    """What a network might say of keypoints inside and outside the input, near borders and between cells."""
    h, w = codec.input_hw
    keypoints_xy = rng.uniform((-0.1 * w, -0.1 * h), (1.1 * w, 1.1 * h), (N, K, 2))
    keypoints_xy[0, :4] = [[0, 0], [w - 1, h - 1], [1.5, h / 2], [w / 2, h - 2.4]]
    target = codec.encode(keypoints_xy, np.full((N, K), 2))
    return [np.ascontiguousarray(array + rng.normal(0, 0.003, array.shape), np.float32)
            for array in target.arrays.values()]


def check(gpu: Emulator, codec: Codec, outputs: list[Float], rng: np.random.Generator) -> None:
    crop_to_image = affines(rng, len(outputs[0]))
    plan = plan_of(codec)
    assert plan
    found = gpu.decode(plan, outputs, crop_to_image)
    np.testing.assert_allclose(found, expected(codec, outputs, crop_to_image), atol=ATOL_PX)


@pytest.mark.parametrize("input_hw", [(256, 192), (112, 112), (60, 44), (20, 12)])  # 3072 cells to 15: all loads
@pytest.mark.parametrize("refine", ["dark", "quadratic", "quarter", "none"])
def test_heatmaps_decode_as_the_codec_does(
        gpu: Emulator, refine: Any, input_hw: tuple[int, int], rng: np.random.Generator) -> None:
    codec = Heatmap(input_hw, refine=refine)
    check(gpu, codec, maps_of(codec, rng), rng)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0, LONGEST_REACH / 2.5])
def test_dark_smooths_as_far_as_the_codec_does(gpu: Emulator, sigma: float, rng: np.random.Generator) -> None:
    codec = Heatmap((128, 96), sigma=sigma)
    check(gpu, codec, maps_of(codec, rng), rng)


@pytest.mark.parametrize("refine", ["dark", "quadratic", "quarter", "none"])
def test_maps_that_no_network_should_say_decode_as_the_codec_does(
        gpu: Emulator, refine: Any, rng: np.random.Generator) -> None:
    codec = Heatmap((64, 48), refine=refine)
    maps = maps_of(codec, rng)[0]
    flat = maps.reshape(N, K, -1)
    flat[0, 0], flat[0, 1], flat[0, 2], flat[0, 3] = np.nan, -np.inf, -1.0, 0.25  # no number, no peak, ties
    flat[0, 4, ::3] = np.nan
    flat[0, 5, 100] = np.inf
    flat[0, 6] = np.round(flat[0, 6] * 4) / 4  # plateaus
    flat[0, 7, [1, 190]] = 3.0
    flat[0, 8, [0, 191]] = 5.0, 5.0
    flat[0, 9, 80] = 2.0
    flat[0, 9, 81], flat[0, 9, 79] = -np.inf, np.nan  # beside the peak
    check(gpu, codec, [maps], rng)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
@pytest.mark.parametrize("refine", ["dark", "quadratic", "quarter"])
def test_maps_of_a_few_cells_have_no_neighbours_to_read(
        gpu: Emulator, refine: Any, side: int, rng: np.random.Generator) -> None:
    codec = Heatmap((4 * side, 4 * side), refine=refine)
    check(gpu, codec, [rng.random((N, K, side, side)).astype(np.float32)], rng)


def test_offsets_are_read_at_the_highest_cell(gpu: Emulator, rng: np.random.Generator) -> None:
    codec = HeatmapOffset((128, 96))
    maps, offsets = maps_of(codec, rng)
    offsets.reshape(N, 2 * K, -1)[0, 6], offsets.reshape(N, 2 * K, -1)[0, 9] = np.nan, np.inf
    maps[1, 0] = np.nan
    check(gpu, codec, [maps, offsets], rng)


@pytest.mark.parametrize("input_hw", [(256, 192), (112, 112), (60, 44), (8, 8)])
@pytest.mark.parametrize("sigma", [0.7, 2.0, 6.0])
def test_means_decode_as_the_codec_does(
        gpu: Emulator, sigma: float, input_hw: tuple[int, int], rng: np.random.Generator) -> None:
    codec = Integral(input_hw, sigma=sigma)
    check(gpu, codec, maps_of(codec, rng), rng)


def test_logits_that_are_not_finite_have_no_weight(gpu: Emulator, rng: np.random.Generator) -> None:
    codec = Integral((64, 48))
    maps = maps_of(codec, rng)[0]
    flat = maps.reshape(N, K, -1)
    flat[0, 0], flat[0, 1], flat[0, 2], flat[0, 3] = np.nan, -np.inf, np.inf, 0.25  # no number, and no difference
    flat[0, 4, ::3], flat[0, 5, 100], flat[0, 6, 7] = np.nan, np.inf, -np.inf
    flat[0, 7, 191], flat[0, 8, 0], flat[0, 9, [3, 150]] = 3e38, -3e38, 90.0
    check(gpu, codec, [maps], rng)


@pytest.mark.parametrize("smoothing", ["gaussian", "standard"])
@pytest.mark.parametrize("input_hw", [(256, 192), (50, 34), (7, 5)])
def test_bins_decode_as_the_codec_does(
        gpu: Emulator, smoothing: Any, input_hw: tuple[int, int], rng: np.random.Generator) -> None:
    codec = SimCC(input_hw, smoothing=smoothing)
    x, y = maps_of(codec, rng)
    x[0, 0], y[0, 1, ::2], x[0, 2], y[0, 3, -1] = np.nan, np.nan, 0.5, np.inf
    check(gpu, codec, [x, y], rng)


def test_coordinates_decode_as_the_codec_does(gpu: Emulator, rng: np.random.Generator) -> None:
    coordinates = rng.uniform(-0.7, 0.7, (N, K, 2)).astype(np.float32)
    coordinates[0, 0, 0] = np.nan
    check(gpu, Regression((112, 96)), [coordinates], rng)


@pytest.mark.parametrize("codec", [Heatmap((128, 96)), HeatmapOffset((128, 96)), Integral((128, 96)),
                                   SimCC((128, 96)), Regression((128, 96))], ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("kind", [np.float16, np.int8])
def test_half_and_quantized_outputs_are_what_their_numbers_stand_for(
        gpu: Emulator, codec: Codec, kind: Any, rng: np.random.Generator) -> None:
    outputs = [output.clip(-1, 1) for output in maps_of(codec, rng)]
    scale = 1.0 if kind is np.float16 else 1 / 127
    stored = [(output / scale).round(0 if kind is np.int8 else 6).astype(kind) for output in outputs]
    meant = [array.astype(np.float32) * np.float32(scale) for array in stored]
    crop_to_image = affines(rng)
    plan = plan_of(codec)
    assert plan
    found = gpu.decode(plan, stored, crop_to_image, scale)
    np.testing.assert_allclose(found, expected(codec, meant, crop_to_image), atol=ATOL_PX)


def test_halves_are_read_as_numpy_reads_them(library: ctypes.CDLL) -> None:
    """Some of every exponent: numbers, numbers too small for a full fraction, zeros, infinities and NaN."""
    halves = np.arange(0, 2**16, 127, dtype=np.uint16)[:512].view(np.float16).reshape(8, 32, 2)
    plan = plan_of(Regression((1, 1)))
    assert plan
    found = Emulator(library).decode(plan, [halves], np.tile(np.eye(2, 3), (8, 1, 1)))
    finite = np.isfinite(halves).all(-1)
    assert 0 < finite.sum() < finite.size
    np.testing.assert_array_equal(found[finite][:, :2], halves[finite].astype(np.float32))
    assert np.isnan(found[np.isnan(halves).any(-1)]).any(-1).all()


@pytest.mark.parametrize("name", CODECS)
def test_what_the_kernels_do_not_decode_has_no_plan(name: str) -> None:
    known = name in ("heatmap", "offset", "integral", "simcc", "regression")
    assert (plan_of(build_codec(name, (64, 64), {})) is not None) == known


@pytest.mark.parametrize("options", [{"peaks": 2}, {"sigma": LONGEST_REACH / 2.5 + 0.1}])
def test_heatmaps_beyond_the_kernels_limits_have_no_plan(options: dict[str, Any]) -> None:
    assert plan_of(Heatmap((64, 64), **options)) is None
