"""OpenPose's people come back from their maps whole and unmixed, and from whatever else a network says in time."""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekp.codecs.openpose import LIMBS, OpenPose
from edgekp.codecs.openpose_decode import (
    FEWEST_KEYPOINTS,
    MOST_PEAKS,
    Connections,
    Peaks,
    assemble,
    connect,
    find_peaks,
)
from edgekp.sample import Bool, Float
from edgekp.skeletons import openpose_from_coco
from tests.edgekp.scenes import CODEC, HALF_ULP, all_visible, decoded, maps_of, mirrored, mirrored_people, scene

EXACT_PX = 1e-4  # a log of float32 maps is off by some 2**-23, over a bend of 1 / sigma**2 and times 8 pixels: 1e-6


def in_order_of(xy: Float, found_xy: Float) -> Float:
    """The people found, each at the place of the one whose nose is nearest."""
    assert len(found_xy) == len(xy)
    return found_xy[[int(np.linalg.norm(found_xy[:, 0] - nose, axis=-1).argmin()) for nose in xy[:, 0]]]


def test_people_who_overlap_come_back_whole() -> None:
    """As many as there were, each keypoint in its place; where neck and hips of two lie in one line, they swap a leg.

    That happens to 4 of 1200 such people, and no field of directions tells them apart.
    """
    people = whole = 0
    for count, seed in product(range(1, 6), range(16)):
        xy = scene(count, seed)
        found_xy, scores = decoded(maps_of(xy))
        error = np.abs(in_order_of(xy, found_xy) - xy).max((1, 2))
        people += count
        whole += (error < EXACT_PX).sum()
        # at worst the keypoint lies between four cells, half a cell from each along both axes
        assert scores.min() >= np.exp(-0.25 * (CODEC.stride / CODEC.sigma) ** 2) - HALF_ULP
        assert scores.max() <= 1
    assert whole >= 0.99 * people


def test_each_scene_of_a_batch_has_its_own_people() -> None:
    batch = np.stack([scene(2, seed=0), scene(2, seed=1), scene(2, seed=2)])
    visibility = all_visible(batch)
    visibility[1, 1] = 0
    for people, found, (found_xy, _) in zip(batch, (2, 1, 2), CODEC.decode(CODEC.encode(batch, visibility).arrays),
                                            strict=True):
        np.testing.assert_allclose(in_order_of(people[:found], found_xy), people[:found], rtol=0, atol=EXACT_PX)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_labelled_and_joined_comes_back_and_the_rest_has_score_0(seed: int) -> None:
    """Limbs alone join keypoints: someone without a neck may come back in parts, and parts of less than 4 do not."""
    xy = scene(3, seed)
    visibility = (np.random.default_rng(seed).uniform(size=(3, 18)) > 0.2) * 2
    expected = [(person, part) for person in range(3) for part in joined(visibility[person] > 0)
                if len(part) >= FEWEST_KEYPOINTS]
    found_xy, scores = decoded(maps_of(xy, visibility))
    assert sorted(map(tuple, scores > 0)) == sorted(tuple(np.isin(range(18), part)) for _, part in expected)
    assert (found_xy[scores == 0] == 0).all()
    for person, part in expected:
        assert np.abs(found_xy[:, part] - xy[person, part]).max((1, 2)).min() < EXACT_PX


def joined(labelled: Bool) -> list[list[int]]:
    """Keypoints that limbs join, directly or through others."""
    group = np.where(labelled, np.arange(18), -1)
    for _ in range(18):
        for a, b in LIMBS[labelled[LIMBS].all(1)]:
            group[[a, b]] = group[[a, b]].min()
    return [np.flatnonzero(group == first).tolist() for first in np.unique(group[labelled])]


def test_real_crowds_come_back_from_their_maps(real_data: Path) -> None:
    """On COCO's own pictures, people of a few cells included: 2 of 100 keypoints are lost where people share cells."""
    document = json.loads((real_data / "pose_coco17/val.json").read_bytes())
    longer_side = {image["id"]: max(image["width"], image["height"]) for image in document["images"]}
    by_image: dict[int, list[Float]] = {}
    for entry in document["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(np.array(entry["keypoints"]).reshape(17, 3))
    drawn = found = 0
    for image, labels in by_image.items():
        triplets = np.stack(labels)
        in_input = (triplets[..., :2] + 0.5) * (368 / longer_side[image]) - 0.5
        xy, visibility = openpose_from_coco(in_input, triplets[..., 2])
        found_xy, scores = decoded(maps_of(xy, visibility))
        for person, labelled in zip(xy, visibility > 0, strict=True):
            for part in joined(labelled):
                if len(part) >= FEWEST_KEYPOINTS:
                    near = np.abs(found_xy[:, part] - person[part]).max(-1) < CODEC.stride / 2
                    drawn += len(part)
                    found += (near & (scores[:, part] > 0)).sum(1).max(initial=0)
    assert drawn > 2000
    assert found > 0.97 * drawn


def test_decoding_mirrored_maps_gives_the_mirrored_people() -> None:
    xy = scene(4, seed=1)
    found_xy, scores = decoded(mirrored(maps_of(xy)))
    np.testing.assert_allclose(in_order_of(mirrored_people(xy), found_xy), mirrored_people(xy), rtol=0, atol=EXACT_PX)
    assert (scores > 0).all()


def test_noise_moves_keypoints_by_a_fraction_of_a_cell(rng: np.random.Generator) -> None:
    """Noise of 0.02 on neighbours above 0.2 moves the top of the parabola by 0.5 * sqrt(2) * 0.1 * sigma**2 cells."""
    xy = scene(3, seed=0)
    noisy = {name: array + rng.normal(0, 0.02, array.shape).astype(np.float32) for name, array in maps_of(xy).items()}
    error = np.linalg.norm(in_order_of(xy, decoded(noisy)[0]) - xy, axis=-1)
    spread_px = 0.5 * np.sqrt(2) * 0.1 * (CODEC.sigma / CODEC.stride) ** 2 * CODEC.stride
    assert error.mean() < spread_px
    assert error.max() < 4 * spread_px


def test_people_are_found_among_hundreds_of_false_peaks() -> None:
    """A grid of lower peaks on every map: false ones are kept, and those above the cap are the lowest."""
    xy = scene(3, seed=0)
    maps = maps_of(xy)
    maps["heatmaps"][0, :18, ::3, ::3] = np.maximum(maps["heatmaps"][0, :18, ::3, ::3], 0.3)
    peaks = find_peaks(maps["heatmaps"][0, :18])
    np.testing.assert_array_equal(np.bincount(peaks.keypoint), MOST_PEAKS)
    found_xy, _ = decoded(maps)
    np.testing.assert_allclose(in_order_of(xy, found_xy), xy, rtol=0, atol=CODEC.stride)


def test_maps_full_of_false_peaks_and_limbs_take_bounded_time(rng: np.random.Generator) -> None:
    """Some 20 ms; without the cap, a million pairs of peaks would take minutes."""
    maps = {"heatmaps": rng.uniform(0, 1, (1, 19, 46, 46)), "pafs": np.ones((1, 38, 46, 46))}
    start = time.process_time()
    found_xy, scores = decoded(maps)
    assert time.process_time() - start < 1
    assert len(found_xy) <= 18 * MOST_PEAKS / FEWEST_KEYPOINTS
    used = found_xy[scores > 0]
    keypoint = np.nonzero(scores > 0)[1]
    assert len(np.unique(np.column_stack([keypoint, used]), axis=0)) == len(used)  # no peak belongs to two people


def test_nan_is_neither_a_peak_nor_a_limb() -> None:
    xy = scene(2, seed=0)
    maps = maps_of(xy)
    maps["heatmaps"][0, :, :2] = np.nan
    maps["pafs"][0, :, -2:] = np.nan
    np.testing.assert_allclose(in_order_of(xy, decoded(maps)[0]), xy, rtol=0, atol=EXACT_PX)
    maps["pafs"][:] = np.nan
    assert len(decoded(maps)[0]) == 0
    maps["heatmaps"][:] = np.nan
    assert len(decoded(maps)[0]) == 0


@pytest.mark.parametrize("level", [-1.0, 0.0, 0.5, 1e30, np.inf])
def test_maps_of_one_level_hold_nobody(level: float) -> None:
    maps = {"heatmaps": np.full((1, 19, 46, 46), level), "pafs": np.full((1, 38, 46, 46), level)}
    assert len(decoded(maps)[0]) == 0


@given(st.integers(0, 2**32 - 1))
def test_whatever_a_network_says_decodes_to_finite_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codec = OpenPose((48, 64))
    maps = {name: rng.choice([np.nan, np.inf, -np.inf, 1e38, -1e38, 0, 0.5, 1], (1, channels, 6, 8))
            for name, channels in (("heatmaps", 19), ("pafs", 38))}
    ((xy, scores),) = codec.decode(maps)
    assert np.isfinite(xy).all()
    assert np.isfinite(scores).all()


def test_decoding_leaves_the_maps_alone() -> None:
    maps = maps_of(scene(2, seed=0))
    maps["heatmaps"][0, 0, 0, 0] = maps["pafs"][0, 0, 0, 0] = np.nan
    before = {name: array.copy() for name, array in maps.items()}
    decoded(maps)
    for name, array in maps.items():
        np.testing.assert_array_equal(array, before[name])


def test_the_best_person_comes_first_and_the_worst_is_left_out() -> None:
    """Peaks and limbs of 0.15 are above their own thresholds, but their sum is below the 0.4 that a person needs."""
    xy = scene(3, seed=0)
    parts = [maps_of(person[None]) for person in xy]
    for strength in ((1.0, 0.6, 0.9), (0.5, 0.15, 1.0)):
        maps = {name: np.sum([part[name] * level for part, level in zip(parts, strength, strict=True)], 0)
                for name in CODEC.outputs}
        found_xy, _ = decoded(maps)
        expected = [person for person in np.argsort(strength)[::-1] if strength[person] > 0.2]
        assert [int(np.abs(xy - found).max((1, 2)).argmin()) for found in found_xy] == expected


def test_a_sure_limb_decides_before_an_unsure_one_that_would_give_a_second_nose() -> None:
    """Two noses and one of each other part; the unsure limb names the second nose first."""
    peaks = Peaks(np.array([0, 0, 1, 2, 3]), np.zeros((5, 2)), np.ones(5, np.float32))
    connections = Connections(np.array([2, 2, 2, 3]), np.array([1, 3, 0, 4]), np.array([0.9, 0.8, 0.7, 0.6]))
    (person,) = assemble(peaks, connections)
    assert person.peaks == {0: 1, 1: 2, 2: 3, 3: 4}
    assert person.score == pytest.approx(4 + 0.9 + 0.8 + 0.6)


@pytest.mark.parametrize(("cells", "value", "expected"), [
    ((), 1.0, 1.0),  # nothing in the way
    ((7,), 0.0, 0.9),  # 9 of 10 samples are more than the share asked for,
    ((7,), np.nan, 0.9),
    ((7,), -1.0, 0.8),
    ((5, 6), 0.0, None),  # 8 are not
    ((5, 6, 7, 8), 0.0, None),  # each end may be in the limb of somebody else
    (range(12), 0.04, None),  # too weak to be more than noise
])
def test_a_limb_is_where_the_field_runs_along_it(cells: tuple[int, ...], value: float, expected: float | None) -> None:
    """From x = 1 to x = 10, so that each sample has a cell of its own."""
    fields = np.zeros((1, 2, 24, 12), np.float32)
    fields[0, 0] = 1
    fields[0, 0, 5, list(cells)] = value
    peaks = Peaks(np.array([0, 1]), np.array([[1.0, 5], [10, 5]]), np.ones(2, np.float32))
    scores = connect(peaks, fields, np.array([[0, 1]])).scores
    np.testing.assert_allclose(scores, [] if expected is None else [expected])
    backwards = connect(peaks, fields, np.array([[1, 0]]))
    assert len(backwards.scores) == 0


@pytest.mark.parametrize(("strength", "map_height", "expected"), [
    (1.0, 20, 1.0), (1.0, 18, 1.0), (1.0, 12, 6 / 9), (0.4, 12, 0.4 - 3 / 9), (0.3, 12, None)])
def test_a_limb_longer_than_half_the_map_loses_score(strength: float, map_height: int, expected: float | None) -> None:
    fields = np.zeros((1, 2, map_height, 12), np.float32)
    fields[0, 0] = strength
    peaks = Peaks(np.array([0, 1]), np.array([[1.0, 5], [10, 5]]), np.ones(2, np.float32))
    scores = connect(peaks, fields, np.array([[0, 1]])).scores
    np.testing.assert_allclose(scores, [] if expected is None else [expected], rtol=1e-6)


def test_of_equal_neighbours_the_first_is_the_peak_and_the_parabola_lies_between() -> None:
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, 3, 3] = maps[0, 3, 4] = 0.5
    maps[1, 0, 5] = 0.2  # on the border, where nothing lies beyond
    peaks = find_peaks(maps)
    np.testing.assert_array_equal(peaks.keypoint, [0, 1])
    np.testing.assert_allclose(peaks.cells_xy, [[3.5, 3], [5, 0]])
    np.testing.assert_array_equal(peaks.heights, np.float32([0.5, 0.2]))
