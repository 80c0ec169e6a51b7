"""The kernels for scenes find the people that the codec finds: together, apart, overlapping, in noise, and nobody."""

from __future__ import annotations

import numpy as np
import pytest

from edgekp.codecs import OpenPose
from edgekp.codecs.openpose import LIMBS
from edgekp.sample import Float
from edgekp.skeletons import OPENPOSE18
from tests.deploy.cuda.emulated import Emulator

CODEC = OpenPose((160, 192))
ATOL_PX = 5e-3  # logs of float32 heights around 0.1 to 1, times a stride of 8
K = len(OPENPOSE18)
TO_INPUT = np.array([[[8, 0, 3.5], [0, 8, 3.5]]])
FIGURE = np.array([[.5, .1], [.5, .22], [.4, .22], [.36, .36], [.34, .5], [.6, .22], [.64, .36], [.66, .5], [.44, .5],
                   [.43, .7], [.42, .9], [.56, .5], [.57, .7], [.58, .9], [.47, .07], [.53, .07], [.43, .1], [.57, .1]])


def scene(rng: np.random.Generator, people: int) -> tuple[Float, Float]:
    """Heatmaps (1, 19, h, w) and fields (1, 38, h, w) of so many people somewhere in the picture."""
    size = rng.uniform(80, 150, (people, 1, 1))
    middle = rng.uniform((50, 60), (140, 100), (people, 1, 2))
    keypoints_xy = (FIGURE - 0.5) * size + middle + rng.normal(0, 2, (people, K, 2))
    visibility = np.where(rng.random((people, K)) < 0.1, 0, 2)
    target = CODEC.encode(keypoints_xy[None], visibility[None])
    return target.arrays["heatmaps"], target.arrays["pafs"]


def check(gpu: Emulator, heatmaps: Float, pafs: Float, at_least: int) -> None:
    (keypoints_xy, scores), = CODEC.decode({"heatmaps": heatmaps, "pafs": pafs})
    found, = gpu.people(np.ascontiguousarray(heatmaps, np.float32), np.ascontiguousarray(pafs, np.float32), LIMBS, K,
                        TO_INPUT, most=16)
    assert len(found) == len(scores) >= at_least
    np.testing.assert_allclose(found[..., 2], scores, atol=1e-6)
    seen = scores > 0
    np.testing.assert_allclose(found[..., :2][seen], keypoints_xy[seen], atol=ATOL_PX)
    assert not found[..., :2][~seen].any()


@pytest.mark.parametrize("people", [0, 1, 2, 4])
def test_people_are_those_that_the_codec_finds(gpu: Emulator, people: int, rng: np.random.Generator) -> None:
    check(gpu, *scene(rng, people), at_least=min(people, 2))


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_people_in_noise_are_those_that_the_codec_finds(gpu: Emulator, noise: float, rng: np.random.Generator) -> None:
    heatmaps, pafs = scene(rng, 3)
    heatmaps += rng.normal(0, noise, heatmaps.shape).astype(np.float32)
    pafs += rng.normal(0, noise, pafs.shape).astype(np.float32)
    check(gpu, heatmaps, pafs, at_least=1)


def test_what_is_no_number_is_neither_peak_nor_limb(gpu: Emulator, rng: np.random.Generator) -> None:
    heatmaps, pafs = scene(rng, 2)
    heatmaps.reshape(-1)[::7], pafs.reshape(-1)[::5] = np.nan, np.inf
    heatmaps[0, 3, 5, 5], heatmaps[0, 4] = np.inf, np.nan
    check(gpu, heatmaps, pafs, at_least=0)


def test_plateaus_have_one_peak_each(gpu: Emulator, rng: np.random.Generator) -> None:
    heatmaps, pafs = scene(rng, 2)
    check(gpu, (heatmaps * 4).round() / 4, pafs, at_least=0)


def test_maps_that_are_nothing_but_peaks_are_decoded_too(gpu: Emulator, rng: np.random.Generator) -> None:
    _, pafs = scene(rng, 1)
    check(gpu, rng.random((1, K + 1, *CODEC.grid.map_hw)).astype(np.float32), pafs, at_least=0)


def test_the_best_are_kept_where_there_is_room_for_few(gpu: Emulator, rng: np.random.Generator) -> None:
    heatmaps, pafs = scene(rng, 4)
    everybody, = gpu.people(heatmaps, pafs, LIMBS, K, TO_INPUT, most=16)
    best, = gpu.people(heatmaps, pafs, LIMBS, K, TO_INPUT, most=1)
    np.testing.assert_array_equal(best, everybody[:1])


def test_scenes_of_a_batch_do_not_see_each_other(gpu: Emulator, rng: np.random.Generator) -> None:
    scenes = [scene(rng, people) for people in (2, 0, 1)]
    heatmaps, pafs = (np.concatenate(arrays) for arrays in zip(*scenes, strict=True))
    to_image = np.concatenate([TO_INPUT, 2 * TO_INPUT, TO_INPUT + 5])
    together = gpu.people(heatmaps, pafs, LIMBS, K, to_image, most=8)
    for number, people in enumerate(together):
        alone, = gpu.people(heatmaps[number:number + 1], pafs[number:number + 1], LIMBS, K,
                            to_image[number:number + 1], most=8)
        np.testing.assert_array_equal(people, alone)
