"""Losses by name: how far a network's outputs are from a codec's targets, for each keypoint with its weight (N, K).

A loss is told keypoint by keypoint and already weighted; ``mean`` divides the sum by the weight of the whole batch,
which may be spread over several parts (gradient accumulation) and processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from edgekp.codecs import Codec, HeatmapOffset, Integral, Regression, SimCC, UDPCombined, codec_to_json
from edgekp.errors import RecipeError, unknown_name

Tensors = tuple[Tensor, ...]  # one for each of the codec's outputs, (N, K, ...)

WING_WIDTH = 10 / 112  # w = 10 and epsilon = 2 pixels of a 112 pixel face, as fractions of the input
WING_EPSILON = 2 / 112
OFFSET_SHARE = 0.1  # of the offsets' L1 beside the heatmaps' squared error
SIMCC_SHARPNESS = 10.0  # RTMPose's beta: bins of peak 1 need it to become a distribution with a peak


def mse(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Squared error summed over each keypoint's map, averaged over the weighted keypoints."""
    (output,), (target,) = outputs, targets
    return _squared(output - target) * weight


def wing(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Wing loss (Feng et al., CVPR 2018): logarithmic near zero, linear far away, continuous at the seam."""
    (output,), (target,) = outputs, targets
    distance = (output - target).abs()
    constant = WING_WIDTH - WING_WIDTH * log(1 + WING_WIDTH / WING_EPSILON)
    near = WING_WIDTH * torch.log(1 + distance / WING_EPSILON)
    return torch.where(distance < WING_WIDTH, near, distance - constant).flatten(2).mean(-1) * weight


def l1(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Absolute error, averaged over the weighted keypoints."""
    (output,), (target,) = outputs, targets
    return (output - target).abs().flatten(2).mean(-1) * weight


def heatmap_offset(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """``mse`` of the heatmaps plus 0.1 x L1 of the offsets in cells, both summed over each keypoint's map.

    The target's heatmap says how much the offset of each cell counts (Papandreou et al., CVPR 2017, with a soft disc).
    """
    (maps, offsets), (true_maps, true_offsets) = outputs, targets
    distance = (offsets - true_offsets).abs()
    distance = distance[:, 0::2] + distance[:, 1::2]
    from_offsets = (distance * true_maps.clamp_min(0)).flatten(2).sum(-1)
    return (_squared(maps - true_maps) + OFFSET_SHARE * from_offsets) * weight


def udp_combined(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Squared error of the disc, and of the offsets on the target's disc, summed over each keypoint's map."""
    (output,), (target,) = outputs, targets
    error = output - target
    disc, x, y = (error[:, channel::3] for channel in range(3))
    return (_squared(disc) + _squared(target[:, ::3] * x) + _squared(target[:, ::3] * y)) * weight


def kl(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the softmax of 10 x the bins, summed over the axes (RTMPose, 2023).

    The bins themselves stay near 0 and 1, so that their peak is a score.
    """
    per_axis = [_divergence(SIMCC_SHARPNESS * output, SIMCC_SHARPNESS * target)
                for output, target in zip(outputs, targets, strict=True)]
    return torch.stack(per_axis).sum(0) * weight


def cross_entropy(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """Cross entropy of the bins' softmax against bins that are a distribution, summed over the axes (SimCC, 2022)."""
    per_axis = [-(target * output.log_softmax(-1)).sum(-1) for output, target in zip(outputs, targets, strict=True)]
    return torch.stack(per_axis).sum(0) * weight


def integral(outputs: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
    """L1 between the means of the maps, in cells, plus the divergence of their softmax (Sun et al., ECCV 2018).

    The mean alone says nothing of the shape: the divergence keeps one peak, and with it a score.
    """
    (logits,), (true_logits,) = outputs, targets
    divergence = _divergence(logits.flatten(2), true_logits.flatten(2))
    distance = (_mean_cell(logits) - _mean_cell(true_logits)).abs().sum(-1)
    return (distance + divergence) * weight


def as_they_are(outputs: Tensors) -> Tensors:
    return outputs


def as_distributions(outputs: Tensors) -> Tensors:
    return tuple(output.softmax(-1) for output in outputs)


@dataclass(frozen=True)
class Loss:
    """A loss by its formula, and by what it can be used for.

    Attributes:
        of: (outputs, targets, weight) to the weighted loss of each keypoint; its sum is that of the batch.
        fits: whether it reads this codec's targets.
        taught: what a teacher's outputs are as targets.
    """

    of: Callable[[Tensors, Tensors, Tensor], Tensor]
    fits: Callable[[Codec], bool]
    taught: Callable[[Tensors], Tensors] = as_they_are


def _has_heatmaps(codec: Codec) -> bool:
    return codec.outputs == ("heatmaps",) and not isinstance(codec, Integral)


LOSSES: dict[str, Loss] = {
    "mse": Loss(mse, lambda codec: _has_heatmaps(codec) or isinstance(codec, Regression)),
    "wing": Loss(wing, lambda codec: isinstance(codec, Regression)),
    "l1": Loss(l1, lambda codec: _has_heatmaps(codec) or isinstance(codec, Regression)),
    "heatmap_offset": Loss(heatmap_offset, lambda codec: isinstance(codec, HeatmapOffset)),
    "udp_combined": Loss(udp_combined, lambda codec: isinstance(codec, UDPCombined)),
    "kl": Loss(kl, lambda codec: isinstance(codec, SimCC) and codec.smoothing == "gaussian"),
    "cross_entropy": Loss(cross_entropy, lambda codec: isinstance(codec, SimCC) and codec.smoothing != "gaussian",
                          taught=as_distributions),
    "integral": Loss(integral, lambda codec: isinstance(codec, Integral)),
}


def loss_named(name: str, codec: Codec) -> Loss:
    """The loss of that name for targets of that codec.

    Raises:
        RecipeError: There is none, or it does not read such targets.
    """
    if name not in LOSSES:
        raise RecipeError(f"train.loss: {unknown_name('loss', name, list(LOSSES))}")
    if not LOSSES[name].fits(codec):
        fitting = [other for other, loss in LOSSES.items() if loss.fits(codec)]
        raise RecipeError(f"train.loss: '{name}' does not read the targets of codec '{codec_to_json(codec)['name']}' "
                          f"with these options; those that do: {', '.join(fitting)}")
    return LOSSES[name]


def mean(weighted: Tensor, total_weight: Tensor) -> Tensor:
    """The loss of a batch, from that of each keypoint; 0 where nothing has a weight."""
    return weighted.sum() / total_weight.clamp_min(1.0)


def _squared(error: Tensor) -> Tensor:
    """(N, K) the sum of the squares of each keypoint."""
    return error.square().flatten(2).sum(-1)


def _divergence(logits: Tensor, true_logits: Tensor) -> Tensor:
    """(N, K) Kullback-Leibler divergence, in nats, of the softmax of (N, K, bins) from that of the true ones."""
    true_log = true_logits.log_softmax(-1)
    return (true_log.exp() * (true_log - logits.log_softmax(-1))).sum(-1)


def _mean_cell(logits: Tensor) -> Tensor:
    """(N, K, 2) column and row, in cells: the mean position under the softmax of (N, K, h, w)."""
    weights = logits.flatten(2).softmax(-1).view_as(logits)
    columns, rows = (torch.arange(side, device=logits.device, dtype=logits.dtype) for side in logits.shape[:1:-1])
    return torch.stack([weights.sum(2) @ columns, weights.sum(3) @ rows], -1)
