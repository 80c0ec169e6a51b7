"""What a network costs on paper: parameters and multiply-accumulates. What it costs on a device is measured in eval."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def count_macs(net: nn.Module, input_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions for one input."""
    total = 0

    def add(module: nn.Conv2d, _: Any, output: Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(add) for module in net.modules() if isinstance(module, nn.Conv2d)]
    was_training = net.training
    net.eval()(torch.zeros(1, 3, *input_hw, device=next(net.parameters()).device))
    net.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
