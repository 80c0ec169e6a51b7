"""What a network costs on paper: parameters and multiply-accumulates. What it costs on a device is measured in eval."""

from __future__ import annotations

import torch
from torch import Tensor, nn

COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def count_macs(net: nn.Module, input_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions, transposed ones and linear layers for one input.

    A layer that runs twice counts twice; products with padding count, as they do in fvcore and in most papers.
    """
    total = 0

    def add(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        gathers = not isinstance(module, nn.ConvTranspose2d)  # each output from weight[0]; that one scatters each input
        total += (output if gathers else inputs[0])[0].numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(add) for module in net.modules() if isinstance(module, COUNTED)]
    was_training = net.training
    net.eval()(torch.zeros(1, 3, *input_hw, device=next(net.parameters()).device))
    net.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
