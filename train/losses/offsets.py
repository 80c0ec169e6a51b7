"""Losses of maps that come with offsets: a heatmap or a disc says where the offsets count."""

from __future__ import annotations

from torch import Tensor

from train.losses.loss import Tensors, squared

OFFSET_SHARE = 0.1  # of the offsets' L1 beside the heatmaps' squared error


def heatmap_offset(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """``mse`` of the heatmaps plus 0.1 x L1 of the offsets in cells, both summed over each keypoint's map.

    The target's heatmap says how much the offset of each cell counts (Papandreou et al., CVPR 2017, with a soft disc).
    """
    (maps, offsets), (true_maps, true_offsets) = outputs, targets
    distance = (offsets - true_offsets).abs()
    distance = distance[:, 0::2] + distance[:, 1::2]
    from_offsets = (distance * true_maps.clamp_min(0)).flatten(2).sum(-1)
    return (squared(maps - true_maps) + OFFSET_SHARE * from_offsets) * weight


def udp_combined(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Squared error of the disc, and of the offsets on the target's disc, summed over each keypoint's map."""
    (output,), (target,) = outputs, targets
    error = output - target
    disc, x, y = (error[:, channel::3] for channel in range(3))
    return (squared(disc) + squared(target[:, ::3] * x) + squared(target[:, ::3] * y)) * weight
