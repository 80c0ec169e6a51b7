"""Losses of any single output, number by number: a map's cells as well as two coordinates."""

from __future__ import annotations

from torch import Tensor

from train.losses.loss import Tensors, squared


def mse(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Squared error summed over each keypoint's map, averaged over the weighted keypoints."""
    (output,), (target,) = outputs, targets
    return squared(output - target) * weight


def l1(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Absolute error, averaged over the weighted keypoints."""
    (output,), (target,) = outputs, targets
    return (output - target).abs().flatten(2).mean(-1) * weight
