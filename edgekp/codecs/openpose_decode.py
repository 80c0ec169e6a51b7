"""From the maps of a scene to its people: peaks, pairs of peaks with a limb between them, and whose they are.

Numpy alone and no loop over cells, so that it runs on a device. Knows no stride and no network; positions are cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from edgekp.codecs.peaks import EARLIER, LATER, quadratic_offset
from edgekp.sample import Float, Int

LOWEST_PEAK = 0.1  # this and the next numbers but for MOST_PEAKS are those of the paper's code
MOST_PEAKS = 32  # of a keypoint; maps that are nothing but false peaks take 40 times as long as three people
SAMPLES = 10  # of the field, evenly from one end of a limb to the other
LOWEST_SAMPLE, LEAST_SHARE = 0.05, 0.8  # more than this share of the samples must exceed this along the limb
FEWEST_KEYPOINTS, LOWEST_MEAN = 4, 0.4  # of a person; the mean is over keypoints, of peaks' heights and limbs' scores
FLOOR = 1e-10  # smallest value whose logarithm is taken


@dataclass(frozen=True)
class Peaks:
    """Places where a keypoint may be, sorted by keypoint and then by falling height.

    Attributes:
        keypoint: (M,) index of the keypoint, and so of the heatmap.
        cells_xy: (M, 2).
        heights: (M,) float32.
    """

    keypoint: Int
    cells_xy: Float
    heights: Float


@dataclass(frozen=True)
class Connections:
    """Pairs of peaks that may be the ends of a limb, the likeliest first.

    Attributes:
        starts, ends: (C,) positions in the peaks.
        scores: (C,) at most 1 on the maps that ``encode`` draws.
    """

    starts: Int
    ends: Int
    scores: Float


@dataclass(eq=False)
class Person:
    """Peaks that belong together, at most one of a keypoint.

    Attributes:
        peaks: position in the peaks by keypoint.
        score: sum of the heights of these peaks and of the scores of the limbs between them.
    """

    peaks: dict[int, int]
    score: float


def decode_scene(heatmaps: Float, fields: Float, limbs: Int) -> tuple[Float, Float]:
    """The people of one scene, the best first.

    Args:
        heatmaps: (K, h, w) without the background.
        fields: (L, 2, h, w), x and y of each limb's field.
        limbs: (L, 2) keypoints where each limb starts and ends.

    Returns:
        Cells (P, K, 2) and heights (P, K) float32; a keypoint that was not found has height 0.
    """
    peaks = find_peaks(heatmaps)
    people = assemble(peaks, connect(peaks, fields, limbs))
    cells_xy, heights = np.zeros((len(people), len(heatmaps), 2)), np.zeros((len(people), len(heatmaps)), np.float32)
    for row, person in enumerate(people):
        keypoints, chosen = list(person.peaks), list(person.peaks.values())
        cells_xy[row, keypoints], heights[row, keypoints] = peaks.cells_xy[chosen], peaks.heights[chosen]
    return cells_xy, heights


def find_peaks(maps: Float) -> Peaks:
    """Cells of maps (K, h, w) that top their neighbours, refined by a parabola through the logs along each axis.

    Of equal neighbours the first is the peak, and a value that is not finite is none. A Gaussian's log is a parabola,
    so that on clean maps the refinement is exact but for the border. Of each keypoint only the ``MOST_PEAKS`` highest
    are kept, which bounds the time that maps full of false peaks take.
    """
    k, h, w = maps.shape
    padded = np.full((k, h + 2, w + 2), -inf, np.float32)
    padded[:, 1:-1, 1:-1] = np.where(np.isfinite(maps), maps, -inf)
    at = _highest_of_each(*_local_maxima(padded))
    keypoint, y, x = np.unravel_index(at, padded.shape)
    logs = np.log(np.maximum(padded[:, 1:-1, 1:-1], FLOOR))
    offset = quadratic_offset(logs, (keypoint * h + y - 1) * w + x - 1)
    return Peaks(keypoint, np.stack([x - 1, y - 1], -1) + offset, padded.reshape(-1)[at])


def _local_maxima(padded: Float) -> tuple[Int, Int, Float]:
    """Position in the flat maps, map and height of every peak; ``padded`` (K, h, w) has a border of -inf."""
    _, h, w = padded.shape
    flat = padded.reshape(-1)
    at = np.flatnonzero(flat > LOWEST_PEAK)
    earlier, later = (flat[at[:, None] + [dy * w + dx for dy, dx in steps]] for steps in (EARLIER, LATER))
    here = flat[at]
    tops = (here[:, None] > earlier).all(1) & (here[:, None] >= later).all(1)
    return at[tops], at[tops] // (h * w), here[tops]


def _highest_of_each(at: Int, keypoint: Int, heights: Float) -> Int:
    """Of the positions the MOST_PEAKS highest of each keypoint, sorted by it and then by falling height."""
    order = np.lexsort((-heights, keypoint))
    keypoint = keypoint[order]
    rank = np.arange(len(at)) - np.searchsorted(keypoint, keypoint)
    return at[order[rank < MOST_PEAKS]]


def connect(peaks: Peaks, fields: Float, limbs: Int) -> Connections:
    """Pairs of peaks between which the field of their limb points from one to the other.

    The score of a pair is the mean of the field along it, read in the nearest cells, where a value that is not finite
    counts as 0. Pairs further apart than half the map's height lose score, so that people far apart are not joined.
    """
    limb, starts, ends = _candidates(peaks.keypoint, limbs)
    along = peaks.cells_xy[ends] - peaks.cells_xy[starts]
    length = np.maximum(np.hypot(*along.T), 1e-9)  # peaks at one place score 0
    places = peaks.cells_xy[starts, None] + np.linspace(0, 1, SAMPLES)[:, None] * along[:, None]
    x, y = np.rint(places).astype(np.int64).transpose(2, 0, 1)
    samples = fields[limb[:, None], :, y, x]
    samples = np.where(np.isfinite(samples), samples, 0).astype(np.float64)
    values = (samples @ (along / length[:, None])[..., None])[..., 0]
    scores = values.mean(1) + np.minimum(0.5 * fields.shape[2] / length - 1, 0)
    fits = np.flatnonzero(((values > LOWEST_SAMPLE).mean(1) > LEAST_SHARE) & (scores > 0))
    best_first = fits[np.argsort(-scores[fits], kind="stable")]
    return Connections(starts[best_first], ends[best_first], scores[best_first])


def _candidates(keypoint: Int, limbs: Int) -> tuple[Int, Int, Int]:
    """Limb, start and end of every pair of peaks that a limb may join; ``keypoint`` (M,) is sorted."""
    first, end = np.searchsorted(keypoint, limbs), np.searchsorted(keypoint, limbs, side="right")
    counts = end - first
    pairs = counts.prod(1)
    limb = np.repeat(np.arange(len(limbs)), pairs)
    rank = np.arange(len(limb)) - np.repeat(pairs.cumsum() - pairs, pairs)
    start, end = np.divmod(rank, counts[limb, 1]) + first[limb].T
    return limb, start, end


def assemble(peaks: Peaks, connections: Connections) -> list[Person]:
    """People, the best first: the connections join their ends one by one, unless that would give someone a second nose.

    This is the greedy parsing of Cao et al. over all limbs at once instead of limb after limb, so that a sure limb is
    never undone by an unsure one. People with few or weak keypoints are left out.
    """
    of_peak = [Person({keypoint: position}, height) for position, (keypoint, height)
               in enumerate(zip(peaks.keypoint.tolist(), peaks.heights.tolist(), strict=True))]
    for start, end, score in zip(connections.starts.tolist(), connections.ends.tolist(),
                                 connections.scores.tolist(), strict=True):
        one, other = of_peak[start], of_peak[end]
        if one.peaks.keys().isdisjoint(other.peaks):
            one.peaks |= other.peaks
            one.score += other.score + score
            for position in other.peaks.values():
                of_peak[position] = one
    usable = [person for person in dict.fromkeys(of_peak) if len(person.peaks) >= FEWEST_KEYPOINTS
              and person.score >= LOWEST_MEAN * len(person.peaks)]
    return sorted(usable, key=lambda person: -person.score)
