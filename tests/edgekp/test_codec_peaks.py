"""Several peaks of a heatmap fused: which belong together, and that the middle of two is nearer than either."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from edgekp.codecs.heatmap import Heatmap
from edgekp.sample import Float

INPUT_HW = (128, 96)
each_refinement = pytest.mark.parametrize("refine", get_args(get_type_hints(Heatmap)["refine"]))


def visible(n: int, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full((n, k), 2)


def anywhere(rng: np.random.Generator, n: int, k: int, margin: float = 0.0) -> Float:
    return rng.uniform(margin, np.array(INPUT_HW[::-1]) - 1 - margin, (n, k, 2))


def hesitating(xy: Float, apart: Float, heights: tuple[float, float]) -> tuple[dict[str, Float], Float]:
    """Maps with a Gaussian on each side of the keypoints, and what they say together: the mean, weighted by height."""
    maps = [Heatmap(INPUT_HW).encode(xy + side * apart, visible(*xy.shape[:2])).arrays["heatmaps"]
            for side in (-0.5, 0.5)]
    mean = xy + apart * 0.5 * (heights[1] - heights[0]) / sum(heights)
    return {"heatmaps": heights[0] * maps[0] + heights[1] * maps[1]}, mean


@each_refinement
def test_two_peaks_fused_find_the_middle_that_the_highest_alone_misses(refine: Any, rng: np.random.Generator) -> None:
    """The peaks are 20 pixels apart, 2.5 sigma; the higher one 4/9 of that, 8.9 pixels, from the mean.

    The other one's flank pulls it nearer, and DARK, which smooths the two into one, already halves its error.
    """
    outputs, truth = hesitating(anywhere(rng, 20, 17, margin=32), np.array([16.0, 12.0]), (1.0, 0.8))
    alone, fused = (np.linalg.norm(Heatmap(INPUT_HW, refine=refine, peaks=peaks).decode(outputs)[0] - truth, axis=-1)
                    for peaks in (1, 2))
    assert alone.mean() > (3.5 if refine == "dark" else 7.5)
    assert fused.mean() < (2.0 if refine == "dark" else 1.0)


@each_refinement
def test_one_peak_is_decoded_as_without_fusing(refine: Any, rng: np.random.Generator) -> None:
    xy = np.concatenate([anywhere(rng, 20, 17), [[[49.5, 61.5]] * 17]])  # the last halfway between four cells: a tie
    outputs = Heatmap(INPUT_HW).encode(xy, visible(21, 17)).arrays
    expected, found = (Heatmap(INPUT_HW, refine=refine, peaks=peaks).decode(outputs) for peaks in (1, 4))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(("dx", "dy", "height", "fused"), [
    (6, 0, 0.8, True), (0, -6, 0.8, True), (4, 4, 0.8, True),
    (7, 0, 0.8, False), (5, 5, 0.8, False),  # 3 sigma are 6 cells
    (-4, 0, 0.51, True), (-4, 0, 0.49, False),
    (1, 0, 0.8, False), (-1, -1, 0.8, False),  # not a peak, but a flank
])
def test_peaks_are_fused_within_3_sigma_and_above_half_the_height(dx: int, dy: int, height: float, fused: bool) -> None:
    maps = np.zeros((1, 1, 32, 24), np.float32)
    maps[0, 0, 15, 11], maps[0, 0, 15 + dy, 11 + dx] = 1.0, height
    cells = Heatmap(INPUT_HW).grid.to_cells(Heatmap(INPUT_HW, refine="none", peaks=3).decode({"heatmaps": maps})[0])
    share = height / (1 + height) if fused else 0.0
    np.testing.assert_allclose(cells[0, 0], [11 + share * dx, 15 + share * dy], atol=1e-6)


@pytest.mark.parametrize("beside", [1.0, np.nan])  # the second cell of a plateau; a value that is none
def test_a_peak_is_fused_whatever_stands_beside_it(beside: float) -> None:
    maps = np.zeros((1, 1, 32, 24), np.float32)
    maps[0, 0, 10, 4:9] = 1.0, beside, 0.0, 0.0, 0.6
    cells = Heatmap(INPUT_HW).grid.to_cells(Heatmap(INPUT_HW, refine="none", peaks=3).decode({"heatmaps": maps})[0])
    np.testing.assert_allclose(cells[0, 0], [(4 + 0.6 * 8) / 1.6, 10], atol=1e-6)


@each_refinement
def test_maps_smaller_than_what_is_searched_for_peaks_are_decoded(refine: Any) -> None:
    maps = np.zeros((1, 1, 4, 3), np.float32)
    maps[0, 0, 0, 0] = 1.0
    xy, _ = Heatmap((16, 12), refine=refine, peaks=9).decode({"heatmaps": maps})
    np.testing.assert_array_equal(xy, [[[1.5, 1.5]]])


def test_no_more_peaks_are_fused_than_asked_for_and_the_highest_first() -> None:
    maps = np.zeros((1, 1, 32, 24), np.float32)
    maps[0, 0, 10, [4, 6, 8]] = 0.6, 1.0, 0.8
    cells = [Heatmap(INPUT_HW, refine="none", peaks=peaks).decode({"heatmaps": maps})[0][0, 0, 0] / 4 - 0.375
             for peaks in (1, 2, 3, 9)]
    three = (0.6 * 4 + 1.0 * 6 + 0.8 * 8) / 2.4
    np.testing.assert_allclose(cells, [6, (6 + 0.8 * 8) / 1.8, three, three], rtol=1e-6)


def test_peaks_are_fused_across_neither_borders_nor_maps() -> None:
    maps = np.zeros((1, 2, 32, 24), np.float32)
    maps[0, 0, 31, 23] = maps[0, 1, 0, 0] = 1.0
    maps[0, 0, 30, 0] = maps[0, 1, 1, 23] = 0.9  # one row on in memory, the other end of the map in the picture
    xy, _ = Heatmap(INPUT_HW, refine="none", peaks=5).decode({"heatmaps": maps})
    np.testing.assert_array_equal(Heatmap(INPUT_HW).grid.to_cells(xy), [[[23, 31], [0, 0]]])
