"""The loss of whole scenes: squared error of keypoint maps and part affinity fields, in the cells that are labelled."""

from __future__ import annotations

import torch
from torch import Tensor

from train.losses.loss import Tensors


def openpose(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """(N, h, w) squared error summed over all maps of each cell, times the cell's weight (Cao et al., CVPR 2017).

    Args:
        outputs, targets: heatmaps (N, K + 1, h, w) and fields (N, 2L, h, w).
        weight: (N, h, w), 0 where people are whom nobody labelled: what is said there is neither right nor wrong.
    """
    errors = [(output - target).square().sum(1) for output, target in zip(outputs, targets, strict=True)]
    return torch.stack(errors).sum(0) * weight
