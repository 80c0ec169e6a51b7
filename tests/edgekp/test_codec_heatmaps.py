"""Heatmaps: the compiled Gaussians, DARK and the other refinements, and what broken maps decode to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekp.codecs import gaussian_kernel
from edgekp.codecs.gaussian_kernel import draw_gaussians
from edgekp.codecs.grid import Grid
from edgekp.codecs.heatmap import Heatmap
from edgekp.codecs.msra import MSRA
from edgekp.codecs.udp import UDP
from edgekp.sample import Float

INPUT_HW = (128, 96)
REFINEMENTS = get_args(get_type_hints(Heatmap)["refine"])
each_refinement = pytest.mark.parametrize("refine", REFINEMENTS)
silently = pytest.mark.filterwarnings("error")


def visible(n: int, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full((n, k), 2)


def anywhere(rng: np.random.Generator, n: int, k: int, margin: float = 0.0) -> Float:
    return rng.uniform(margin, np.array(INPUT_HW[::-1]) - 1 - margin, (n, k, 2))


def gaussian(cells_xy: Float, map_hw: tuple[int, int], sigma: float) -> Float:
    """(..., h, w) float64 from the definition."""
    y, x = np.mgrid[:map_hw[0], :map_hw[1]]
    distance = (x - cells_xy[..., 0, None, None]) ** 2 + (y - cells_xy[..., 1, None, None]) ** 2
    return np.exp(-distance / (2 * sigma**2))


# Encoding


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0, 3.0, 20.0])
@pytest.mark.parametrize("map_hw", [(64, 48), (7, 1), (96, 72)])
def test_the_compiled_gaussian_is_the_formulas(map_hw: tuple[int, int], sigma: float, rng: np.random.Generator) -> None:
    """Two float32 profiles are multiplied: three roundings of 6e-8, and a tail of exp(-18) = 1.5e-8."""
    cells = rng.uniform(-3 * sigma, np.array(map_hw[::-1]) - 1 + 3 * sigma, (4, 17, 2))
    maps, weight = draw_gaussians(cells, visible(4, 17), Grid(map_hw), sigma, reach=int(6 * sigma) + 1,
                                  margin=3 * sigma)
    assert weight.all()
    np.testing.assert_allclose(maps, gaussian(cells, map_hw, sigma), rtol=0, atol=2e-7)


def test_beyond_its_reach_a_gaussian_is_0() -> None:
    maps, _ = draw_gaussians(np.array([[[10.4, 20.0]]]), visible(1, 1), Grid((64, 48)), 2.0, reach=3, margin=0.0)
    rows, columns = np.nonzero(maps[0, 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (17, 23, 7, 13)


def test_the_peak_of_a_map_is_1_at_a_cells_centre_and_the_spread_is_sigma() -> None:
    codec = Heatmap(INPUT_HW)
    maps = codec.encode(np.array([[[4 * 10 + 1.5, 4 * 12 + 1.5]]]), visible(1, 1)).arrays["heatmaps"][0, 0]
    assert maps[12, 10] == 1
    np.testing.assert_allclose(maps[12, 12], np.exp(-0.5), rtol=1e-6)  # one sigma is two cells
    np.testing.assert_allclose(maps[16, 10], np.exp(-2), rtol=1e-6)


def test_a_keypoint_out_of_reach_weighs_0_and_leaves_an_empty_map() -> None:
    just_inside, just_outside = [-24.4, 60.0], [-24.6, 60.0]  # 3 sigma of 2 cells of 4 pixels from the map's edge, -0.5
    below, far_below, nowhere = [60.0, 151.4], [60.0, 151.6], [np.nan, 60.0]
    target = Heatmap(INPUT_HW).encode(np.array([[just_inside, just_outside, below, far_below, nowhere]]), visible(1, 5))
    np.testing.assert_array_equal(target.weight, [[1, 0, 1, 0, 0]])
    np.testing.assert_array_equal(target.arrays["heatmaps"].max((2, 3)) > 0, [[True, False, True, False, False]])


@pytest.mark.parametrize("change", [
    lambda xy, visibility: (xy.astype(np.float32), visibility.astype(np.uint8)),
    lambda xy, visibility: (np.asfortranarray(xy), visibility > 0),
    lambda xy, visibility: (xy[::-1].copy()[::-1], visibility[:, ::-1].copy()[:, ::-1]),
])
def test_the_layout_and_type_of_annotations_do_not_matter(change: Any, rng: np.random.Generator) -> None:
    xy, visibility = np.round(anywhere(rng, 3, 17)), rng.integers(0, 3, (3, 17))
    expected, found = Heatmap(INPUT_HW).encode(xy, visibility), Heatmap(INPUT_HW).encode(*change(xy, visibility))
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.arrays["heatmaps"], expected.arrays["heatmaps"])


def test_one_compiled_version_serves_every_caller() -> None:
    """A whole sigma or another type of visibility would each cost a second of compilation in every new place."""
    xy, visibility = np.full((1, 1, 2), 50.0), visible(1, 1)
    Heatmap(INPUT_HW, stride=2, sigma=2).encode(xy.astype(np.float32), visibility.astype(np.uint8))
    MSRA(INPUT_HW, sigma=3).encode(xy, visibility > 0)
    UDP(INPUT_HW).encode(np.asfortranarray(xy), visibility)
    versions = {tuple(str(getattr(kind, "dtype", kind)) + getattr(kind, "layout", "") for kind in signature)
                for signature in gaussian_kernel._draw.signatures}  # type: ignore[attr-defined]
    assert len(versions) == 1


def test_keypoints_and_visibility_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keypoints of shape \(1, 17, 2\) with visibility of shape \(1, 14\)"):
        Heatmap(INPUT_HW).encode(np.zeros((1, 17, 2)), visible(1, 14))


def test_without_numba_encoding_says_what_to_install_and_decoding_works(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Heatmap(INPUT_HW)
    outputs = codec.encode(np.full((1, 1, 2), 50.0), visible(1, 1)).arrays
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "edgekp.codecs.gaussian_kernel")
    with pytest.raises(ModuleNotFoundError, match=r"numba is missing: pip install 'edgekp\[train\]'"):
        codec.encode(np.full((1, 1, 2), 50.0), visible(1, 1))
    np.testing.assert_allclose(codec.decode(outputs)[0], 50.0, atol=0.01)


# Decoding: the position of a peak between the cells


def dark_as_published(heatmap: Float, sigma: float) -> Float:
    """(2,) cells, for one map: blur all of it, take logarithms, one Newton step."""
    h, w = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    radius = int(np.ceil(2.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    smooth = np.pad(heatmap.astype(np.float64), radius)
    for axis in (0, 1):
        smooth = np.apply_along_axis(np.convolve, axis, smooth, kernel / kernel.sum(), mode="same")
    log = np.log(np.maximum(smooth[radius:radius + h, radius:radius + w], 1e-10))
    if not (1 < x < w - 2 and 1 < y < h - 2):
        return np.array([x, y], dtype=np.float64)
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    xx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    yy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    xy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    if xx * yy - xy * xy == 0:
        return np.array([x, y], dtype=np.float64)
    step = -np.linalg.solve([[xx, xy], [xy, yy]], gradient)
    return np.array([x, y]) + (step if np.abs(step).max() <= 2 else 0)


@pytest.mark.parametrize(("input_hw", "sigma"), [
    ((256, 192), 2.0), ((128, 96), 3.0), ((36, 24), 2.0), ((32, 512), 1.0), ((8, 64), 1.0)])
def test_dark_from_patches_is_dark_from_whole_maps(input_hw: tuple[int, int], sigma: float,
                                                   rng: np.random.Generator) -> None:
    """Peaks anywhere, so that patches meet every border; maps smaller than a patch; and two persons of noise alone."""
    codec = Heatmap(input_hw, sigma=sigma)
    xy = rng.uniform(-4, np.array(input_hw[::-1]) + 4, (6, 17, 2))
    maps = codec.encode(xy, np.repeat([[2], [0]], (4, 2), axis=0) * visible(6, 17)).arrays["heatmaps"]
    maps = (maps + rng.normal(0, 0.02, maps.shape)).astype(np.float32)
    expected = [[dark_as_published(heatmap, sigma) for heatmap in person] for person in maps]
    decoded, scores = codec.decode({"heatmaps": maps})
    np.testing.assert_allclose(codec.grid.to_cells(decoded), expected, atol=1e-9)
    np.testing.assert_array_equal(scores, maps.max((2, 3)))


def quadratic_error(fraction: Float, sigma: float) -> Float:
    """Where a parabola through three samples of a Gaussian has its top, less where the Gaussian has it, in cells."""
    return np.sinh(fraction / sigma**2) / 2 / (np.exp(0.5 / sigma**2) - np.cosh(fraction / sigma**2)) - fraction


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_the_error_of_the_quadratic_refinement_is_the_one_derived(sigma: float, rng: np.random.Generator) -> None:
    codec = Heatmap(INPUT_HW, sigma=sigma, refine="quadratic")
    cells = rng.uniform(2, (21, 29), (20, 17, 2))
    decoded, _ = codec.decode(codec.encode(codec.grid.to_pixels(cells), visible(20, 17)).arrays)
    expected = quadratic_error(cells - np.round(cells), sigma)
    np.testing.assert_allclose(codec.grid.to_cells(decoded) - cells, expected, atol=1e-5 * sigma**2)
    assert np.abs(expected).max() < 0.05 / sigma**2


def test_the_quarter_offset_goes_towards_the_higher_neighbour_of_each_axis() -> None:
    maps = np.zeros((1, 1, 32, 24), np.float32)
    maps[0, 0, 10, 4:7] = 0.2, 1.0, 0.3
    maps[0, 0, 9, 5] = 0.1
    xy, _ = Heatmap(INPUT_HW, refine="quarter").decode({"heatmaps": maps})
    np.testing.assert_array_equal(xy, [[[4 * 5.25 + 1.5, 4 * 9.75 + 1.5]]])


@pytest.mark.parametrize("refine", ["quarter", "quadratic"])
def test_at_the_border_an_axis_without_two_neighbours_is_not_refined(refine: Any) -> None:
    """Nor is a value of the next map, or of the next row, taken for a neighbour."""
    maps = np.zeros((1, 3, 32, 24), np.float32)
    maps[0, 0, -1, -1] = maps[0, 1, 0, 0] = maps[0, 2, 7, -1] = 1.0
    maps[0, 1, 0, 1] = maps[0, 1, 1, 0] = maps[0, 2, 8, 0] = maps[0, 2, 6, -1] = 0.9
    xy, _ = Heatmap(INPUT_HW, refine=refine).decode({"heatmaps": maps})
    cells = Heatmap(INPUT_HW).grid.to_cells(xy)
    np.testing.assert_array_equal(cells[0, :2], [[23, 31], [0, 0]])
    assert cells[0, 2, 0] == 23
    assert 6.5 < cells[0, 2, 1] < 7


def test_each_refinement_beats_the_simpler_one_on_clean_maps(rng: np.random.Generator) -> None:
    xy = anywhere(rng, 50, 17, margin=20)
    outputs = Heatmap(INPUT_HW).encode(xy, visible(50, 17)).arrays
    dark, quadratic, quarter, none = (np.abs(Heatmap(INPUT_HW, refine=refine).decode(outputs)[0] - xy).mean()
                                      for refine in ("dark", "quadratic", "quarter", "none"))
    assert dark < quadratic / 10 < quarter / 100 < none / 190  # a quarter halves the mean of |error|: 0.5 and 1 pixel


def test_dark_beats_argmax_on_noisy_maps(rng: np.random.Generator) -> None:
    xy = anywhere(rng, 20, 17, margin=20)
    maps = Heatmap(INPUT_HW).encode(xy, visible(20, 17)).arrays["heatmaps"]
    noisy = {"heatmaps": maps + rng.normal(0, 0.02, maps.shape).astype(np.float32)}
    dark, argmax = (np.linalg.norm(Heatmap(INPUT_HW, refine=refine).decode(noisy)[0] - xy, axis=-1).mean()
                    for refine in ("dark", "none"))
    assert dark < 0.05 * 4 < 0.3 * 4 < argmax  # of a cell of 4 pixels


@given(fraction=arrays(np.float64, (1, 1, 2), elements=st.floats(0, 1)))
def test_dark_is_never_worse_than_argmax(fraction: Float) -> None:
    codec = Heatmap(INPUT_HW)
    xy = fraction * (np.array(INPUT_HW[::-1]) - 1)
    decoded, _ = codec.decode(codec.encode(xy, visible(1, 1)).arrays)
    assert np.abs(decoded - xy).max() <= codec.stride / 2 + 1e-6  # at the border argmax is left: half a cell


# Broken maps


@pytest.mark.parametrize("peaks", [1, 3])
def test_ties_go_to_the_lowest_index(peaks: int) -> None:
    maps = np.zeros((1, 1, 32, 24), np.float32)
    maps[0, 0, 10, 5] = maps[0, 0, 10, 15] = maps[0, 0, 20, 2] = 0.5
    xy, scores = Heatmap(INPUT_HW, refine="none", peaks=peaks).decode({"heatmaps": maps})
    np.testing.assert_array_equal(xy, [[[4 * 5 + 1.5, 4 * 10 + 1.5]]])
    assert scores[0, 0] == 0.5


@silently
@pytest.mark.parametrize("peaks", [1, 3])
@each_refinement
def test_nan_never_wins_and_a_map_of_nothing_else_scores_0(refine: Any, peaks: int) -> None:
    codec = Heatmap(INPUT_HW, refine=refine, peaks=peaks)
    maps = codec.encode(np.array([[[50.0, 60.0]] * 5]), visible(1, 5)).arrays["heatmaps"]
    maps[0, 1, 0, 0] = np.nan
    maps[0, 2] = np.nan
    maps[0, 3] = 0
    maps[0, 4] = -np.inf
    xy, scores = codec.decode({"heatmaps": maps})
    assert np.isfinite(xy).all()
    np.testing.assert_allclose(xy[0, 1], xy[0, 0])
    np.testing.assert_allclose(scores, [[scores[0, 0], scores[0, 0], 0, 0, 0]])


def test_a_nan_beside_the_peak_counts_as_0() -> None:
    codec = Heatmap(INPUT_HW)
    maps = codec.encode(np.array([[[50.0, 60.0]] * 2]), visible(1, 2)).arrays["heatmaps"]
    maps[0, :, 16, 13] = 0, np.nan
    xy, _ = codec.decode({"heatmaps": maps})
    np.testing.assert_array_equal(xy[0, 0], xy[0, 1])


@pytest.mark.parametrize("refine", ["quarter", "quadratic"])
def test_where_the_peak_lies_does_not_depend_on_its_height(refine: Any, rng: np.random.Generator) -> None:
    maps = Heatmap(INPUT_HW).encode(anywhere(rng, 2, 17), visible(2, 17)).arrays["heatmaps"]
    low, high = (Heatmap(INPUT_HW, refine=refine).decode({"heatmaps": maps * scale})[0] for scale in (2.0**-20, 1.0))
    np.testing.assert_array_equal(low, high)


def test_a_parabola_never_has_its_top_over_half_a_cell_away() -> None:
    maps = np.full((1, 1, 32, 24), -5.0, np.float32)
    maps[0, 0, 10, 4:7] = np.nan, -1.0, -2.001  # NaN counts as 0: higher than the peak, so that the parabola turns over
    xy, _ = Heatmap(INPUT_HW, refine="quadratic").decode({"heatmaps": maps})
    np.testing.assert_array_equal(Heatmap(INPUT_HW).grid.to_cells(xy), [[[4.5, 10]]])


@silently
@pytest.mark.parametrize("peaks", [1, 3])
@each_refinement
@given(maps=arrays(np.float32, (1, 2, 8, 6), elements=st.floats(width=32)))
def test_whatever_a_network_says_decodes_to_finite_numbers_near_the_input(refine: Any, peaks: int, maps: Float) -> None:
    xy, scores = Heatmap((32, 24), refine=refine, peaks=peaks).decode({"heatmaps": maps})
    assert np.isfinite(scores).all()
    assert ((xy > -8) & (xy < (32, 40))).all()  # the input and two cells around it


def test_the_layout_and_type_of_outputs_do_not_matter(rng: np.random.Generator) -> None:
    codec = Heatmap(INPUT_HW)
    maps = codec.encode(anywhere(rng, 2, 17), visible(2, 17)).arrays["heatmaps"]
    expected = codec.decode({"heatmaps": maps})
    frozen = maps.copy()
    frozen.setflags(write=False)
    for other in (maps.astype(np.float64), np.asfortranarray(maps), maps[:, :, ::-1].copy()[:, :, ::-1], frozen):
        for found, array in zip(codec.decode({"heatmaps": other}), expected, strict=True):
            np.testing.assert_array_equal(found, array)


# mmpose's cells are input pixels / 4 without the half pixel; in cells, both definitions are the same.


def oracle_maps(real_data: Path) -> tuple[dict[str, Float], Heatmap, np.ndarray[Any, np.dtype[np.bool_]]]:
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    case = {name.split("/")[1]: archive[name] for name in archive.files if name.startswith("MSRAHeatmap_unbiased/")}
    case["cells"] = archive["keypoints"] / 4
    return case, Heatmap((256, 192)), case["keypoint_weights"][0] > 0


def test_encoding_agrees_with_mmposes_unbiased_maps(real_data: Path) -> None:
    case, codec, labelled = oracle_maps(real_data)
    target = codec.encode(codec.grid.to_pixels(case["cells"]), 2 * labelled[None].astype(np.int64))
    np.testing.assert_array_equal(target.weight, case["keypoint_weights"])
    np.testing.assert_allclose(target.arrays["heatmaps"][0, labelled], case["heatmaps"][labelled], rtol=0, atol=2e-7)


@pytest.mark.parametrize("prefix", ["", "noisy_"])
def test_decoding_agrees_with_mmposes_dark(real_data: Path, prefix: str) -> None:
    case, codec, labelled = oracle_maps(real_data)
    xy, scores = codec.decode({"heatmaps": case[f"{prefix}heatmaps"].astype(np.float32)[None]})
    np.testing.assert_allclose(codec.grid.to_cells(xy[0, labelled]) * 4,
                               case[f"{prefix}decoded_keypoints"][0, labelled], atol=1e-4)
    np.testing.assert_allclose(scores[0, labelled], case[f"{prefix}decoded_scores"][0, labelled], atol=1e-6)
