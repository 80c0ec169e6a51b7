"""Batch norm over the batch of several processes, on any device; ``nn.SyncBatchNorm`` exists for GPUs alone.

Mean and variance of the whole batch come from those of the shares by the formula of Chan, Golub and LeVeque (1979),
which cancels nothing; the backward pass is that of Ioffe and Szegedy (2015) with its two sums taken over all processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

PIXELS = (0, 2, 3)  # what a channel's statistics are taken over


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that works on the tensors of ``norm``; in evaluation mode it needs no other process."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, variance, count = common_statistics(x.detach().to(self.weight.dtype))
        self._follow(mean, variance * count / (count - 1))
        out: Tensor = _Normalised.apply(x, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[no-untyped-call]
        return out

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, by a plain mean over the batches where ``momentum`` is None."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


@torch.no_grad()
def common_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and count () of every process's ``x`` (N, C, H, W), which may differ in N."""
    variance, mean = torch.var_mean(x, PIXELS, correction=0)
    count = mean.new_tensor([x.numel() // x.shape[1]])
    mine = torch.cat([mean, variance, count])
    shares = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(shares, mine)
    means, variances, counts = torch.split(torch.stack(shares), [len(mean), len(mean), 1], dim=1)
    total = counts.sum()
    common = (means * counts).sum(0) / total
    return common, ((variances + (means - common).square()) * counts).sum(0) / total, total


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of every process's x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: Tensor,
                eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, and of weight and bias as far as this process's x goes: the world takes their mean later."""
        x, weight, mean, inverse_std, count = ctx.saved_tensors
        out = gradients[0].to(weight.dtype)
        standard = (x.to(weight.dtype) - _as_map(mean)) * _as_map(inverse_std)
        of_bias, of_weight = out.sum(PIXELS), (out * standard).sum(PIXELS)
        sums = torch.stack([of_bias, of_weight])
        distributed.all_reduce(sums)
        common_bias, common_weight = sums / count
        centred = out - _as_map(common_bias) - standard * _as_map(common_weight)
        of_x = centred * _as_map(weight * inverse_std)
        return of_x.to(x.dtype), of_weight, of_bias, None, None, None, None


def _as_map(channels: Tensor) -> Tensor:
    """(C,) as (C, 1, 1)."""
    return channels[:, None, None]
