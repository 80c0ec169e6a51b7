"""OpenPose's maps are those of the definition and of others, and only scenes are asked for by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.codecs import CODECS, SCENE_CODECS, build_codec, build_scene_codec
from edgekp.codecs.openpose import LIMBS, OpenPose
from edgekp.errors import RecipeError
from edgekp.sample import Bool, Float, Int
from edgekp.skeletons import OPENPOSE18
from tests.edgekp.scenes import CODEC, HALF_ULP, all_visible, decoded, maps_of, mirrored, mirrored_people, scene


def defined_heatmaps(cells_xy: Float, drawn: Bool, map_hw: tuple[int, int], sigma: float) -> Float:
    """The definition, (K + 1, h, w) float64, of cells (P, K, 2)."""
    y, x = np.indices(map_hw)
    squared = (x - cells_xy[..., :1, None]) ** 2 + (y - cells_xy[..., 1:, None]) ** 2
    maps = (np.exp(-squared / (2 * sigma**2)) * drawn[..., None, None]).max(0)
    return np.concatenate([maps, 1 - maps.max(0, keepdims=True)])


def limb_lines(cells_xy: Float, drawn: Bool, map_hw: tuple[int, int], thickness: float) -> tuple[Float, Bool]:
    """Unit vectors (P, L, 2) of limbs, and the cells (P, L, h, w) near their lines, which have no ends."""
    start, end = cells_xy[:, LIMBS[:, 0]], cells_xy[:, LIMBS[:, 1]]
    length = np.hypot(*np.moveaxis(end - start, -1, 0))
    usable = drawn[:, LIMBS].all(-1) & (length > 0)
    unit = (end - start) / np.where(length > 0, length, 1)[..., None]
    y, x = np.indices(map_hw)
    across = (x - start[..., :1, None]) * unit[..., 1:, None] - (y - start[..., 1:, None]) * unit[..., :1, None]
    return unit, (np.abs(across) <= thickness) & usable[..., None, None]


def limb_boxes(cells_xy: Float, map_hw: tuple[int, int], thickness: float) -> Bool:
    """The cells (P, L, h, w) in or near the bounding box of each limb."""
    ends = cells_xy[:, LIMBS]
    low, high = (ends.min(2) - thickness)[..., None, None], (ends.max(2) + thickness)[..., None, None]
    y, x = np.indices(map_hw)
    return (x >= low[:, :, 0]) & (x <= high[:, :, 0]) & (y >= low[:, :, 1]) & (y <= high[:, :, 1])


def defined_pafs(cells_xy: Float, drawn: Bool, map_hw: tuple[int, int], thickness: float) -> Float:
    """The definition, (2L, h, w) float64: the mean over the people whose limb covers a cell."""
    unit, near = limb_lines(cells_xy, drawn, map_hw, thickness)
    cover = near & limb_boxes(cells_xy, map_hw, thickness)
    total = np.einsum("plc,plhw->lchw", unit, cover.astype(np.float64))
    return (total / np.maximum(cover.sum(0), 1)[:, None]).reshape(-1, *map_hw)


@pytest.mark.parametrize("codec", [CODEC, OpenPose((96, 160), stride=4, sigma=9.5, thickness=1.7),
                                   OpenPose((64, 48), stride=16, sigma=3, thickness=0.4)], ids=str)
def test_the_maps_are_those_of_the_definition(codec: OpenPose, rng: np.random.Generator) -> None:
    """Anywhere, also outside: limbs cross and overlap, people are partly off the picture, some limbs have no length."""
    n, people = 3, 5
    xy = rng.uniform(-80, np.array(codec.input_hw[::-1]) + 80, (n, people, 18, 2))
    xy[0, 1] = xy[0, 0]  # two people at one place
    xy[1, :, 3] = xy[1, :, 2]  # a limb without length
    xy[2, ..., 1] = codec.stride * rng.integers(0, 6, (people, 1)) + (codec.stride - 1) / 2  # limbs along rows of cells
    visibility = rng.integers(0, 3, (n, people, 18))
    arrays = codec.encode(xy, visibility).arrays
    for i in range(n):
        args = (xy[i] + 0.5) / codec.stride - 0.5, visibility[i] > 0, codec.grid.map_hw
        # a product of two rounded profiles, rounded; the mean is rounded once for each person
        np.testing.assert_allclose(arrays["heatmaps"][i], defined_heatmaps(*args, codec.sigma / codec.stride),
                                   rtol=0, atol=4 * HALF_ULP)
        np.testing.assert_allclose(arrays["pafs"][i], defined_pafs(*args, codec.thickness),
                                   rtol=0, atol=people * HALF_ULP)
    assert limb_lines(*args, codec.thickness)[1].sum(0).max() > 1  # the mean was put to the test


def oracle_scene(real_data: Path) -> tuple[Any, OpenPose, Float, Int]:
    """A third party's maps, where visibility 2 means absent."""
    oracle = np.load(real_data / "fixtures/oracle/paf_openpose_oracle.npz")
    stride, sigma, thickness = oracle["stride_sigma_thickness"].tolist()
    codec = OpenPose((32 * stride, 40 * stride), stride, sigma, thickness)
    return oracle, codec, oracle["keypoints_xyv"][..., :2], np.where(oracle["keypoints_xyv"][..., 2] == 2, 0, 2)


def test_heatmaps_equal_a_third_partys_where_both_draw_one_person(real_data: Path) -> None:
    """Theirs end at 0.01 and are the sum over people; where these overlap, the highest is lower."""
    oracle, codec, xy, visibility = oracle_scene(real_data)
    ours, theirs = codec.encode(xy[None], visibility[None]).arrays["heatmaps"][0], oracle["keypoint_maps"]
    cells_xy = codec.grid.to_cells(xy)
    alone = np.stack([defined_heatmaps(person[None], drawn[None], codec.grid.map_hw, codec.sigma / codec.stride)[:-1]
                      for person, drawn in zip(cells_xy, visibility > 0, strict=True)])
    one = (alone > 1e-9).sum(0) == 1
    inside = one & (alone.max(0) > 0.01)
    assert inside.sum() > 200
    np.testing.assert_allclose(ours[:-1][inside], theirs[:-1][inside], rtol=0, atol=4 * HALF_ULP)
    assert np.abs(ours - theirs).max() < 0.011


def test_fields_equal_a_third_partys_where_one_limb_covers_a_cell(real_data: Path) -> None:
    """Theirs divide pixels by the stride without the half pixel, and so lie (stride - 1) / 2 pixels off their own
    heatmaps. Their box is cut to integers, from a cell too far left to a cell too far left; in a mirrored picture it
    lies elsewhere. Where limbs overlap they keep the last one.
    """
    oracle, codec, xy, visibility = oracle_scene(real_data)
    map_hw, thickness = codec.grid.map_hw, codec.thickness
    ours = codec.encode(xy[None] + (codec.stride - 1) / 2, visibility[None]).arrays["pafs"][0].reshape(19, 2, *map_hw)
    theirs = oracle["paf_maps"].reshape(19, 2, *map_hw)
    cells_xy = xy / codec.stride
    ends = cells_xy[:, LIMBS]
    low, high = np.trunc(ends.min(2) - thickness), np.trunc(ends.max(2) + thickness) - 1
    y, x = np.indices(map_hw)
    their_box = ((x >= low[..., :1, None]) & (x <= high[..., :1, None])
                 & (y >= low[..., 1:, None]) & (y <= high[..., 1:, None]))
    _, near = limb_lines(cells_xy, visibility > 0, map_hw, thickness)
    our_cover, their_cover = near & limb_boxes(cells_xy, map_hw, thickness), near & their_box
    for fields, cover in ((ours, our_cover), (theirs, their_cover)):
        np.testing.assert_array_equal((fields != 0).any(1), cover.any(0))
    compared = (our_cover.sum(0) == 1) & (their_cover.sum(0) == 1) & (our_cover & their_cover).any(0)
    assert compared.sum() > 0.8 * our_cover.any(0).sum()
    np.testing.assert_allclose(ours.swapaxes(0, 1)[:, compared], theirs.swapaxes(0, 1)[:, compared],
                               rtol=0, atol=HALF_ULP)


def test_trap_shoulders_are_joined_with_ears_and_not_with_eyes() -> None:
    xy, visibility = np.zeros((1, 18, 2)), np.zeros((1, 18), np.int64)
    for side in ("right", "left"):
        shoulder, ear = (OPENPOSE18.keypoints.index(f"{side}_{part}") for part in ("shoulder", "ear"))
        assert (shoulder, ear) in OPENPOSE18.limbs
        xy[0, shoulder], xy[0, ear] = (100, 200), (100, 100)
        visibility[0, [shoulder, ear]] = 2
    fields = maps_of(xy, visibility)["pafs"].reshape(19, 2, 46, 46)
    assert [OPENPOSE18.limbs[limb] for limb in np.flatnonzero(fields.any((1, 2, 3)))] == [(2, 16), (5, 17)]
    np.testing.assert_array_equal(np.unique(fields), [-1, 0])  # from the shoulder up to the ear
    assert not fields[:, 0].any()


def test_trap_mirrored_people_have_mirrored_maps() -> None:
    """Coordinates in eighths are exact in floating point, so that no cell on a limb's edge changes sides."""
    xy = np.round(scene(4, seed=0) * 8) / 8
    assert_same_maps(mirrored(maps_of(xy)), maps_of(mirrored_people(xy)))


def assert_same_maps(some: dict[str, Float], others: dict[str, Float]) -> None:
    for name, array in some.items():
        np.testing.assert_allclose(array, others[name], rtol=0, atol=4 * HALF_ULP, err_msg=name)


def test_people_who_fill_up_a_batch_leave_no_trace() -> None:
    xy, nobody = scene(2, seed=0), np.full((3, 18, 2), np.nan)
    visibility = np.concatenate([all_visible(xy), np.zeros((3, 18), np.int64)])
    assert_same_maps(maps_of(np.concatenate([xy, nobody]), visibility), maps_of(xy))


@pytest.mark.parametrize("people", [0, 2])
def test_a_picture_without_people_is_background(people: int) -> None:
    maps = maps_of(np.zeros((people, 18, 2)), np.zeros((people, 18), np.int64))
    assert (maps["heatmaps"][0, :18] == 0).all()
    assert (maps["heatmaps"][0, 18] == 1).all()
    assert (maps["pafs"] == 0).all()
    assert decoded(maps)[0].shape == (0, 18, 2)


@pytest.mark.parametrize("position", [np.nan, np.inf, -np.inf, 1e300])
def test_a_keypoint_without_a_usable_position_is_not_drawn(position: float) -> None:
    xy = scene(1, seed=0)
    visibility = all_visible(xy)
    visibility[0, 1] = 0
    expected = maps_of(xy, visibility)
    xy[0, 1, 1] = position
    assert_same_maps(maps_of(xy), expected)


def test_hidden_keypoints_are_drawn_and_every_cell_weighs_1() -> None:
    xy = scene(2, seed=0)
    target = CODEC.encode(xy[None], np.ones((1, 2, 18), np.int64))
    assert_same_maps(target.arrays, maps_of(xy))
    np.testing.assert_array_equal(target.weight, np.ones((1, 46, 46)))


def test_encoding_leaves_its_arguments_alone() -> None:
    xy, visibility = scene(2, seed=0)[None], np.ones((1, 2, 18), np.int64)
    before = xy.copy(), visibility.copy()
    CODEC.encode(xy, visibility)
    np.testing.assert_array_equal(xy, before[0])
    np.testing.assert_array_equal(visibility, before[1])


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="keypoints of shape"):
        CODEC.encode(np.zeros((1, 2, 18, 2)), np.zeros((1, 3, 18), np.int64))


def test_a_recipe_of_one_person_an_input_refuses_a_codec_of_scenes() -> None:
    assert not CODECS.keys() & SCENE_CODECS.keys()
    with pytest.raises(RecipeError, match=r"decodes several people.*choose heatmap"):
        build_codec("openpose", (368, 368), {})


def test_a_codec_of_scenes_is_built_by_name() -> None:
    assert build_scene_codec("openpose", (368, 368), {"sigma": 9}) == OpenPose((368, 368), sigma=9)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("opnpose", {}, "did you mean 'openpose'"),
    ("heatmap", {}, "no codec of whole scenes"),
    ("openpose", {"sigm": 2}, "did you mean 'sigma'"),
    ("openpose", {"stride": 7}, "does not divide"),
    ("openpose", {"sigma": 0}, "codec.sigma: 0, expected a number of pixels above 0"),
    ("openpose", {"sigma": "7"}, "codec.sigma"),
    ("openpose", {"thickness": float("nan")}, "codec.thickness: nan, expected a number of cells above 0"),
    ("openpose", {"thickness": True}, "codec.thickness"),
])
def test_a_codec_that_cannot_be_built_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_scene_codec(name, (368, 368), options)


def test_a_device_without_numba_decodes_and_is_told_what_encoding_needs(repository: Path) -> None:
    program = """
import sys
sys.modules["numba"] = None
import numpy as np
from edgekp.codecs import OpenPose
codec = OpenPose((368, 368))
assert codec.decode({"heatmaps": np.zeros((1, 19, 46, 46)), "pafs": np.zeros((1, 38, 46, 46))})[0][0].shape[0] == 0
codec.encode(np.zeros((1, 1, 18, 2)), np.zeros((1, 1, 18), int))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, text=True, capture_output=True, check=False)
    assert "numba is missing: pip install 'edgekp[train]'" in done.stderr
