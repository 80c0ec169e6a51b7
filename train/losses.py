"""Losses by name: (N, K, ...) outputs against targets, each keypoint with its weight (N, K)."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import torch
from torch import Tensor

from edgekp.errors import RecipeError, unknown_name

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

WING_WIDTH = 10 / 112  # w = 10 and epsilon = 2 pixels of a 112 pixel face, as fractions of the input
WING_EPSILON = 2 / 112


def mse(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Squared error summed over each keypoint's map, averaged over the weighted keypoints."""
    return _average((output - target).square().flatten(2).sum(-1), weight)


def wing(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Wing loss (Feng et al., CVPR 2018): logarithmic near zero, linear far away, continuous at the seam."""
    distance = (output - target).abs()
    constant = WING_WIDTH - WING_WIDTH * log(1 + WING_WIDTH / WING_EPSILON)
    near = WING_WIDTH * torch.log(1 + distance / WING_EPSILON)
    return _average(torch.where(distance < WING_WIDTH, near, distance - constant).flatten(2).mean(-1), weight)


def l1(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Absolute error, averaged over the weighted keypoints."""
    return _average((output - target).abs().flatten(2).mean(-1), weight)


LOSSES: dict[str, Loss] = {"mse": mse, "wing": wing, "l1": l1}


def loss_named(name: str) -> Loss:
    if name not in LOSSES:
        raise RecipeError(f"train.loss: {unknown_name('loss', name, list(LOSSES))}")
    return LOSSES[name]


def _average(per_keypoint: Tensor, weight: Tensor) -> Tensor:
    return (per_keypoint * weight).sum() / weight.sum().clamp_min(1.0)
