"""Losses of bins along the axes (SimCC), read as distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from train.losses.loss import Tensors

SIMCC_SHARPNESS = 10.0  # RTMPose's beta: bins of peak 1 need it to become a distribution with a peak


def kl(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the softmax of 10 x the bins, summed over the axes (RTMPose, 2023).

    The bins themselves stay near 0 and 1, so that their peak is a score.
    """
    per_axis = [divergence(SIMCC_SHARPNESS * output, SIMCC_SHARPNESS * target)
                for output, target in zip(outputs, targets, strict=True)]
    return torch.stack(per_axis).sum(0) * weight


def cross_entropy(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Cross entropy of the bins' softmax against bins that are a distribution, summed over the axes (SimCC, 2022)."""
    per_axis = [-(target * output.log_softmax(-1)).sum(-1) for output, target in zip(outputs, targets, strict=True)]
    return torch.stack(per_axis).sum(0) * weight


def as_distributions(outputs: Tensors) -> Tensors:
    return tuple(output.softmax(-1) for output in outputs)


def divergence(logits: Tensor, true_logits: Tensor) -> Tensor:
    """(N, K) Kullback-Leibler divergence, in nats, of the softmax of (N, K, bins) from that of the true ones."""
    true_log = true_logits.log_softmax(-1)
    return (true_log.exp() * (true_log - logits.log_softmax(-1))).sum(-1)
