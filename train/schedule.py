"""How the learning rate and the averaged weights move with the step."""

from __future__ import annotations

import copy
from math import cos, pi

import torch
from torch import nn


def learning_rate(step: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up to ``peak`` (over at most a tenth of the run), then half a cosine down to zero."""
    warmup = min(warmup, total // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + cos(pi * (step - warmup) / max(1, total - warmup)))


class Average:
    """Exponential moving average of weights and batch-norm statistics; it follows fast while it is young."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        floats, news = [], []
        for mine, new in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                floats.append(mine)
                news.append(new)
            else:
                mine.copy_(new)
        torch._foreach_lerp_(floats, news, 1 - decay)
