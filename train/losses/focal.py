"""Penalty-reduced focal loss on heatmaps, for the few cells that hold a keypoint among the many that do not."""

from __future__ import annotations

from torch import Tensor

from train.losses.loss import Tensors

ALPHA, BETA = 2, 4  # CornerNet's
CLAMP = 1e-6  # a float32 below 1 still tells 1 - p there; CenterNet's 1e-4 has no gradient for p = 0.0001


def focal(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """CornerNet's loss (Law & Deng, ECCV 2018; also CenterNet's), summed over each keypoint's map of probabilities.

    ``-(1 - p)^2 log p`` on a keypoint's own cell and ``-(1 - y)^4 p^2 log(1 - p)`` on the others, where y is the
    target. Its best answer is 1 on that cell and 0 elsewhere, so the network says a keypoint to a cell, not to a part.

    The papers round a keypoint to a cell, where y = 1. Ours may lie between cells: its own is the highest, and that
    term counts y. So a teacher's map counts as much as it is sure, and what it says is learnt to a cell, too.
    """
    (output,), (target,) = outputs, targets
    p, y = output.clamp(CLAMP, 1 - CLAMP), target.clamp(0, 1)
    own = y * (y == y.amax((2, 3), keepdim=True))
    missed = own * (1 - p)**ALPHA * p.log()
    imagined = (1 - y)**BETA * p**ALPHA * (-p).log1p()
    return -(missed + imagined).flatten(2).sum(-1) * weight
