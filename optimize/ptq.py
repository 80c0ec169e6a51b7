"""INT8 post-training quantization: symmetric, weights per output channel, activations per tensor, head in float.

One set of scales is found here, in torch; every target spells the same grid in its own way (deploy/export/qdq.py).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgekp.errors import DataError, RecipeError
from edgekp.recipe_steps import Quantize
from optimize.adaround import adaptive_rounding
from optimize.bias_correction import correct_biases
from optimize.calibration import SMALLEST, calibrate, largest_magnitudes
from optimize.equalization import Pair, equalize
from optimize.modelopt_backend import calibrate_with_modelopt
from train.models import ModelSpec, quantized
from train.models.checkpoint import Checkpoint
from train.models.quantized import INT8_MAX, fake_quantizers, insert_fake_quantizers, quant_convs, set_enabled

FAINTEST = 2**-16  # smallest scale of a channel in units of the largest of its layer: int32 biases overflow below


@dataclass(frozen=True)
class Quantized:
    """A network on the grid, how to rebuild it, and what was chosen.

    Attributes:
        float_layers: convolutions that stayed in float.
        thresholds: of each activation, by the name of its quantizer: the magnitude that becomes the largest level.
        dead: layers whose result is zero on every image.
        equalized: pairs of layers whose ranges were evened out.
        corrections: of biases, by layer, as fractions of the largest mean output.
    """

    net: nn.Module
    spec: ModelSpec
    float_layers: list[str]
    thresholds: dict[str, float]
    dead: list[str] = field(default_factory=list)
    equalized: list[Pair] = field(default_factory=list)
    corrections: dict[str, float] = field(default_factory=dict)


def quantize_network(parent: Checkpoint, settings: Quantize, inputs: Tensor) -> Quantized:
    """Put a float network on the int8 grid, with scales from (N, 3, h, w) inputs, on the inputs' device.

    Raises:
        DataError: A layer's weights or results are NaN or infinite.
        RecipeError: An unknown layer, or none that is not kept in float.
    """
    spec = quantized(parent.spec, settings.keep_float, settings.int16)
    assert spec.quantization is not None
    net = insert_fake_quantizers(parent.net.cpu(), spec.quantization).to(inputs.device)
    if not quant_convs(net):
        raise RecipeError("optimize.quantize.keep_float: covers every convolution, so that nothing is left for int8; "
                          "shorten the list, or leave the step out")
    _require_finite_weights(net)
    pairs = equalize(net) if settings.equalize else []
    reference = copy.deepcopy(net)
    set_enabled(reference, weights=False, activations=False)
    set_weight_scales(net)
    find = calibrate_with_modelopt if settings.backend == "modelopt" else calibrate
    thresholds = find(net, inputs, settings.observer)
    if settings.rounding == "adaptive":
        adaptive_rounding(net, reference, inputs)
    corrections = correct_biases(net, inputs) if settings.correct_bias else {}
    kept = [name for name, module in net.named_modules()
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and name not in quant_convs(net)]
    return Quantized(net, spec, kept, thresholds, dead_layers(reference, inputs), pairs, corrections)


@torch.no_grad()
def set_weight_scales(net: nn.Module) -> None:
    """The largest magnitude of each output channel becomes 127."""
    for conv in quant_convs(net).values():
        largest = conv.largest_weights()
        faintest = float(largest.max()) * FAINTEST or 1.0  # a layer of zeros needs a scale, too
        conv.weight_scale.copy_(largest.clamp_min(faintest) / INT8_MAX)


def dead_layers(net: nn.Module, inputs: Tensor) -> list[str]:
    """Layers of which every result on every input is zero, in a network that computes in float."""
    largest = largest_magnitudes(net, inputs)
    return [quantizer.layer for name, quantizer in fake_quantizers(net).items() if largest[name] <= SMALLEST]


def _require_finite_weights(net: nn.Module) -> None:
    for name, conv in quant_convs(net).items():
        if not all(torch.isfinite(tensor).all() for tensor in conv.parameters()):
            raise DataError(f"optimize.quantize: layer '{name}' has weights that are NaN or infinite; "
                            "train the network again, perhaps with a lower rate")
