"""Adaptive Wing loss on heatmaps: steep where a keypoint is, quadratic where none is (Wang et al., ICCV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from train.losses.loss import Tensors

ALPHA, OMEGA, EPSILON, THETA = 2.1, 14.0, 1.0, 0.5
FOREGROUND, FOREGROUND_WEIGHT = 0.2, 10.0  # heat of a cell or a neighbour that makes it count 1 + 10 times


def adaptive_wing(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Adaptive Wing loss with its weighted loss map, averaged over each keypoint's map of heat in 0..1."""
    (output,), (target,) = outputs, targets
    dilated = max_pool2d(target, 3, stride=1, padding=1)
    importance = 1 + FOREGROUND_WEIGHT * (dilated >= FOREGROUND)
    return (importance * per_cell(output, target)).flatten(2).mean(-1) * weight


def per_cell(output: Tensor, target: Tensor) -> Tensor:
    """Equations 4 and 5 of the paper: logarithmic up to an error of theta, then a line with the same slope."""
    power = ALPHA - target.clamp(0, 1)  # a teacher may say more than 1, and the loss must stay smooth at no error
    distance = (output - target).abs()
    at_seam = (THETA / EPSILON)**power
    slope = OMEGA * power * at_seam / (1 + at_seam) / THETA
    near = OMEGA * torch.log1p((distance.clamp_max(THETA) / EPSILON)**power)
    return near + slope * (distance - THETA).clamp_min(0)
