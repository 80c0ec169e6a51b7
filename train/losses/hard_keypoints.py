"""Online hard keypoint mining: of each instance only what the network finds hardest (CPN, Chen et al., CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from train.losses.elementwise import mse
from train.losses.loss import Tensors

HARDEST = 8  # CPN's number, of COCO's 17 keypoints


def ohkm(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """``mse`` of the 8 hardest keypoints of each instance, or of all that count where those are fewer.

    The mined keypoints share the whole weight of their instance, so that the average is one over mined keypoints and
    an instance is worth as much as without mining.
    """
    weighted = mse(outputs, targets, weight)
    mined = torch.zeros_like(weight).scatter(1, _hardest(weighted.detach(), weight), 1.0)
    mined_weight = (weight * mined).sum(1, keepdim=True)
    share = torch.where(mined_weight > 0, weight.sum(1, keepdim=True) / mined_weight, 0.0)
    return weighted * mined * share


def _hardest(weighted: Tensor, weight: Tensor) -> Tensor:
    """(N, at most 8) which keypoints; those without a weight come last, even after those without an error."""
    ranked = torch.where(weight > 0, weighted, -1.0)
    return ranked.topk(min(HARDEST, ranked.shape[1]), dim=1).indices
