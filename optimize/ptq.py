"""INT8 post-training quantization: symmetric, weights per output channel, activations per tensor, head in float.

One set of scales is found here, in torch; every target spells the same grid in its own way (deploy/export/qdq.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekp.recipe_steps import Quantize
from optimize.calibration import SMALLEST, calibrate
from train.models import ModelSpec, quantized
from train.models.checkpoint import Checkpoint
from train.models.quantized import INT8_MAX, insert_fake_quantizers, quant_convs


@dataclass(frozen=True)
class Quantized:
    """A network on the grid, how to rebuild it, and what was chosen.

    Attributes:
        float_layers: convolutions that stayed in float.
        thresholds: of each activation, by the name of its quantizer: the magnitude that becomes the largest level.
    """

    net: nn.Module
    spec: ModelSpec
    float_layers: list[str]
    thresholds: dict[str, float]


def quantize_network(parent: Checkpoint, settings: Quantize, inputs: Tensor) -> Quantized:
    """Put a float network on the int8 grid, with scales from (N, 3, h, w) inputs, on the inputs' device.

    Raises:
        RecipeError: An unknown layer.
    """
    spec = quantized(parent.spec, settings.keep_float, settings.int16)
    assert spec.quantization is not None
    net = insert_fake_quantizers(parent.net.cpu(), spec.quantization)
    set_weight_scales(net)
    thresholds = calibrate(net.to(inputs.device), inputs, settings.observer)
    kept = [name for name, module in net.named_modules()
            if isinstance(module, nn.Conv2d) and spec.quantization.keeps(name)]
    return Quantized(net, spec, kept, thresholds)


@torch.no_grad()
def set_weight_scales(net: nn.Module) -> None:
    """The largest magnitude of each output channel becomes 127."""
    for conv in quant_convs(net).values():
        largest = conv.weight.abs().amax(dim=(1, 2, 3)).clamp_min(SMALLEST)
        conv.weight_scale.copy_(largest / INT8_MAX)
