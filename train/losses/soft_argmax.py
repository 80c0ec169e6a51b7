"""Losses of where a map lies on average: the position of a keypoint without an argmax, so that it can be learnt."""

from __future__ import annotations

import torch
from torch import Tensor

from train.losses.bins import divergence
from train.losses.loss import Tensors, squared

JOINT_SHARE = 0.1  # of the positions' L1 beside the heatmaps' squared error
HEATMAP_SHARPNESS = 20.0  # the peak of 1 outweighs 3,000 cells of 0 by 200,000, and still shares with its neighbours


def integral(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """L1 between the means of the maps, in cells, plus the divergence of their softmax (Sun et al., ECCV 2018).

    The mean alone says nothing of the shape: the divergence keeps one peak, and with it a score.
    """
    (logits,), (true_logits,) = outputs, targets
    from_shape = divergence(logits.flatten(2), true_logits.flatten(2))
    return (_distance(logits, true_logits) + from_shape) * weight


def joint(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """``mse`` of the heatmaps plus 0.1 x L1 between their soft-argmax, in cells.

    The soft-argmax is the mean under the softmax of 20 x the map (Luvizon et al., 2019), of targets as of outputs.
    """
    (maps,), (true_maps,) = outputs, targets
    distance = _distance(HEATMAP_SHARPNESS * maps, HEATMAP_SHARPNESS * true_maps)
    return (squared(maps - true_maps) + JOINT_SHARE * distance) * weight


def _distance(logits: Tensor, true_logits: Tensor) -> Tensor:
    """(N, K) columns plus rows between the means of two maps."""
    return (_mean_cell(logits) - _mean_cell(true_logits)).abs().sum(-1)


def _mean_cell(logits: Tensor) -> Tensor:
    """(N, K, 2) column and row, in cells: the mean position under the softmax of (N, K, h, w)."""
    weights = logits.flatten(2).softmax(-1).view_as(logits)
    columns, rows = (torch.arange(side, device=logits.device, dtype=logits.dtype) for side in logits.shape[:1:-1])
    return torch.stack([weights.sum(2) @ columns, weights.sum(3) @ rows], -1)
