"""Losses of coordinates that are fractions of the input: linear far away, each with its own idea of near."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from train.losses.loss import Tensors

WING_WIDTH = 10 / 112  # w = 10 and epsilon = 2 pixels of a 112 pixel face, as fractions of the input
WING_EPSILON = 2 / 112
SMOOTH_WIDTH = 1 / 112  # 1 pixel of a 112 pixel face, 2.3 of a 256 pixel crop


def wing(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Wing loss (Feng et al., CVPR 2018): logarithmic near zero, linear far away, continuous at the seam."""
    (output,), (target,) = outputs, targets
    distance = (output - target).abs()
    constant = WING_WIDTH - WING_WIDTH * log(1 + WING_WIDTH / WING_EPSILON)
    near = WING_WIDTH * torch.log(1 + distance / WING_EPSILON)
    return torch.where(distance < WING_WIDTH, near, distance - constant).flatten(2).mean(-1) * weight


def smooth_l1(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Smooth L1 (Girshick, ICCV 2015): quadratic below 1 pixel of a 112 pixel input, linear with slope 1 beyond."""
    (output,), (target,) = outputs, targets
    return smooth_l1_loss(output, target, reduction="none", beta=SMOOTH_WIDTH).flatten(2).mean(-1) * weight
