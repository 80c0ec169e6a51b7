"""Bias correction (Nagel et al., ICCV 2019): the mean error that rounding weights gives a layer leaves its bias again.

Only what the layer's own weights add is taken out, E[(rounded W - W) x], layer by layer on what the corrected layers
before it give. To pull a layer's whole mean back to where it is in float does harm: behind a ReLU most cells read 0,
and the shift that mends the mean of a pose network's maps moves all of their background (docs/quantization.md).
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import torch
from torch import Tensor, fx

from train.models.quantized import QuantLayer

IMAGES = 64  # a mean over their cells needs no more


@torch.no_grad()
def correct_biases(net: fx.GraphModule, inputs: Tensor) -> dict[str, float]:
    """Change the biases of a network whose scales are set, so that rounded weights shift no channel on average.

    A layer that is called more than once, or has no bias, is left as it is.

    Args:
        inputs: (N, 3, h, w) training images.

    Returns:
        The largest correction of each layer, as a fraction of its largest mean output.
    """
    inputs = inputs[torch.linspace(0, len(inputs) - 1, min(IMAGES, len(inputs))).round().long()]
    calls = Counter(str(node.target) for node in net.graph.nodes if node.op == "call_module")
    corrections: dict[str, float] = {}
    hooks = [layer.register_forward_hook(partial(_correct, name, corrections)) for name, layer in net.named_modules()
             if isinstance(layer, QuantLayer) and layer.bias is not None and calls[name] == 1]
    net(inputs)
    for hook in hooks:
        hook.remove()
    return corrections


def _correct(name: str, corrections: dict[str, float], layer: QuantLayer, inputs: tuple[Tensor, ...],
             out: Tensor) -> Tensor:
    """The layer's output after its bias has been corrected for these inputs."""
    enabled, layer.enabled = layer.enabled, False
    wanted = layer.forward(*inputs).mean((0, 2, 3))
    layer.enabled = enabled
    shift = wanted - out.mean((0, 2, 3))
    assert layer.bias is not None
    layer.bias.add_(shift)
    corrections[name] = float(shift.abs().max() / wanted.abs().max().clamp_min(1e-12))
    corrected: Tensor = out + shift[:, None, None]
    return corrected
