"""What the codec makes of the labels: keypoints that leave no target, and a sigma that does not fit the people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from edgekp.codecs import Codec
from edgekp.doctor.boxes import is_beside, is_outside_box, is_outside_image
from edgekp.doctor.dataset import DataSet
from edgekp.doctor.finding import Fault, Finding, at_annotations, at_keypoints, at_set
from edgekp.doctor.values import box, is_normalised
from edgekp.preprocess import crop_affine, transform
from edgekp.sample import Bool, Float, Int

INSTANCES_AT_ONCE = 64  # targets of 68 maps of 64 x 64 stay below 80 MB
SMALLEST_SIGMA_CELLS = 0.75  # a narrower Gaussian is one cell: its place between cells cannot be read back
SMALLEST_SPREAD = 1 / 3  # of the annotators' spread: below it, the label's own error moves the peak by three sigmas
SMALLEST_SIDE_CELLS = 8  # of a person's longer side, one image pixel each input pixel

ZERO_TARGET = Fault(
    "target-zero", "warning", "a labelled keypoint leaves nothing on its target",
    why="it lies outside the crop: the map is all zero and its weight 0, so the keypoint is not learnt where people "
        "are cut off",
    mend="enlarge the box, or the recipe's input.padding; a few at the border of the picture are usual")
SIGMA_LARGE = Fault(
    "sigma-too-large", "warning", "sigma is as large as the distance between neighbouring keypoints",
    why="neighbours' maps are nearly the same picture, and peaks of one are taken for the other's",
    mend="a smaller codec.sigma, a smaller codec.stride, or a larger input.input_hw")
SIGMA_SMALL = Fault(
    "sigma-too-small", "warning", "sigma is too small for the map, or for the labels",
    why="one cell among thousands gives no gradient, and the network answers with an empty map",
    mend="codec.sigma of 1.5 to 2 cells; 2 is usual at stride 4 with an input of 256 x 192")
SMALL = Fault(
    "instance-small", "note", "a person is smaller than a few cells of the target",
    why=f"less than {SMALLEST_SIDE_CELLS} x stride pixels of picture are blown up to a whole input: what is learnt is "
        "blur, and annotators could not place the keypoints either",
    mend="a smaller input.input_hw, larger pictures, or leave such instances out; COCO labels none below 32 x 32 px")


@runtime_checkable
class Maps(Protocol):
    """A codec of maps."""

    @property
    def stride(self) -> int:
        """Input pixels per cell."""


@runtime_checkable
class GaussianMaps(Maps, Protocol):
    """A codec of maps with a Gaussian at each keypoint."""

    @property
    def sigma(self) -> float:
        """Spread of the Gaussian, in cells."""


def check_targets(data: DataSet) -> Iterator[Finding]:
    """Nothing unless the crop and codec are known."""
    rows = np.flatnonzero(data.counts & data.has_box & ~is_normalised(data) & ~is_beside(data))
    if data.plan is None or not len(rows):
        return
    codec, spec = data.plan.codec, data.plan.input
    affines = np.stack([crop_affine(bbox_xywh, spec.input_hw, spec.padding, align=spec.align)
                        for bbox_xywh in data.bbox_xywh[rows]])
    input_xy = transform(data.keypoints_xy[rows], affines)
    empty = np.zeros_like(data.labelled)
    empty[rows] = _leaves_nothing(codec, input_xy, data.labelled[rows])
    empty &= ~is_outside_image(data) & ~is_outside_box(data)  # those have a finding of their own
    yield from at_keypoints(ZERO_TARGET, data, empty, lambda row: _names(data, empty[row]))
    if isinstance(codec, Maps):
        small = np.zeros_like(data.counts)
        small[rows] = data.bbox_xywh[rows, 2:].max(-1) < SMALLEST_SIDE_CELLS * codec.stride
        yield from at_annotations(SMALL, data, small, lambda row: box(data, row))
    if isinstance(codec, GaussianMaps):
        yield from _check_sigma(data, codec, _spacing(input_xy, data.labelled[rows]),
                                _annotators_spread(data, rows, affines[:, 0, 0]))


def _check_sigma(data: DataSet, codec: GaussianMaps, spacing_px: float, spread_px: float) -> Iterator[Finding]:
    """Sigma against the median distance of neighbouring keypoints and the annotators' spread, all in input pixels."""
    sigma_px = codec.sigma * codec.stride
    said = f"sigma {codec.sigma:g} cells of {codec.stride} px = {sigma_px:g} px"
    yield from at_set(SIGMA_LARGE, data, spacing_px < sigma_px,
                      f"{said}; neighbouring keypoints are {spacing_px:.1f} px apart")
    yield from at_set(SIGMA_SMALL, data, codec.sigma < SMALLEST_SIGMA_CELLS or sigma_px < SMALLEST_SPREAD * spread_px,
                      f"{said}; annotators differ by {spread_px:.1f} px")


def _leaves_nothing(codec: Codec, input_xy: Float, labelled: Bool) -> Bool:
    """(N, K) True where a keypoint is labelled and the codec gives it no weight."""
    weights = [codec.encode(np.where(labelled[rows, :, None], input_xy[rows], 0.0), labelled[rows].astype(int)).weight
               for rows in _blocks(len(labelled))]
    return np.asarray(labelled & (np.concatenate(weights) == 0))


def _spacing(input_xy: Float, labelled: Bool) -> float:
    """Median distance from a labelled keypoint to the nearest other one of its instance; infinite if there is none."""
    nearest = []
    for rows in _blocks(len(labelled)):
        apart = np.linalg.norm(input_xy[rows, :, None] - input_xy[rows, None], axis=-1)
        other = labelled[rows, :, None] & labelled[rows, None] & ~np.eye(labelled.shape[1], dtype=bool)
        nearest.append(np.where(other, apart, np.inf).min(-1)[labelled[rows]])
    return float(np.median(np.concatenate(nearest)))


def _annotators_spread(data: DataSet, rows: Int, scale: Float) -> float:
    """Median over the labelled keypoints of the distance by which annotators differ (COCO's sigma), input pixels."""
    area_px2 = np.where(data.area_px2[rows] > 0, data.area_px2[rows], data.bbox_xywh[rows, 2:].prod(-1))
    spread = data.skeleton.sigma_array * (np.sqrt(area_px2) * scale)[:, None]
    return float(np.median(spread[data.labelled[rows]]))


def _blocks(length: int) -> list[slice]:
    return [slice(start, start + INSTANCES_AT_ONCE) for start in range(0, length, INSTANCES_AT_ONCE)]


def _names(data: DataSet, marked: Bool) -> str:
    return ", ".join(name for name, is_marked in zip(data.skeleton.keypoints, marked, strict=True) if is_marked)
