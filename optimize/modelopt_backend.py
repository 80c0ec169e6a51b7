"""NVIDIA ModelOpt in two places of ours: its calibrators find our scales, its quantizers round while a network trains.

Only numbers cross the border, so a checkpoint never needs ModelOpt to be rebuilt or exported.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from edgekp.errors import RecipeError
from optimize.calibration import BATCH, DEAD_THRESHOLD, SMALLEST, largest_magnitudes
from train.models.quantized import FakeQuantizer, fake_quantizers, quant_convs, set_enabled

ENTROPY_STRIDE = 16  # bins of about 2048 between two thresholds that are tried: it loops in Python
MSE_RANGE, MSE_STEP = (0.2, 1.0), 0.1  # thresholds that are tried, as shares of the largest magnitude: each is a pass


def is_installed() -> bool:
    return find_spec("modelopt") is not None


def require_modelopt(setting: str) -> None:
    """Refuse a recipe's ``setting`` before anything is computed.

    Raises:
        RecipeError: ModelOpt is not installed.
    """
    if not is_installed():
        raise RecipeError(f'{setting}: "modelopt" is not installed; run: pip install -e \'.[modelopt]\', '
                          "or leave the setting out")


def install(net: nn.Module) -> None:
    """Put ModelOpt's quantizers where ours are, in place; scales of weights follow the weights from now on."""
    for name, quantizer in fake_quantizers(net).items():
        theirs = _tensor_quantizer(num_bits=quantizer.bits)
        theirs.amax = quantizer.scale * quantizer.largest_level
        _replace(net, name, theirs)
    for conv in quant_convs(net).values():
        conv.enabled = False
        theirs = _tensor_quantizer(axis=conv.channel_axis)  # without amax: each channel's largest weight, at every call
        register_parametrization(conv, "weight", theirs, unsafe=True)


@torch.no_grad()
def read_back(trained: nn.Module, net: nn.Module) -> None:
    """Copy what a network with ModelOpt's quantizers has learnt into the same network with ours, in place.

    All but the scales of weights, which follow from the weights.
    """
    weights = {name.replace("parametrizations.weight.original", "weight"): tensor
               for name, tensor in trained.state_dict().items()}
    left = net.load_state_dict(weights, strict=False).missing_keys
    assert all(name.endswith(("scale", "weight_scale")) for name in left), left
    for name, quantizer in fake_quantizers(net).items():
        theirs: Any = trained.get_submodule(name)
        quantizer.scale.copy_(theirs.amax / quantizer.largest_level)


@torch.no_grad()
def calibrate_with_modelopt(net: nn.Module, inputs: Tensor, observer: str) -> dict[str, float]:
    """``calibrate``, by ModelOpt's calibrators.

    Raises:
        DataError: A layer's result is NaN or infinite.
    """
    set_enabled(net, weights=True, activations=False)
    quantizers = fake_quantizers(net)
    largest = largest_magnitudes(net, inputs)
    calibrators = {name: _calibrator(observer, quantizer, largest[name])
                   for name, quantizer in quantizers.items() if largest[name] > SMALLEST}
    hooks = [quantizers[name].register_forward_pre_hook(lambda _, seen, its=calibrator: its.collect(seen[0]))
             for name, calibrator in calibrators.items()]
    for batch in torch.split(inputs, BATCH):
        net(batch)
    for hook in hooks:
        hook.remove()
    thresholds = dict.fromkeys(quantizers, DEAD_THRESHOLD)
    thresholds |= {name: float(_amax(calibrator, observer)) for name, calibrator in calibrators.items()}
    for name, quantizer in quantizers.items():
        quantizer.scale.fill_(thresholds[name] / quantizer.largest_level)
    set_enabled(net, weights=True, activations=True)
    return thresholds


def _calibrator(observer: str, quantizer: FakeQuantizer, largest: float) -> Any:
    """What looks at an activation.

    ModelOpt's histograms also offer "mse"; in 0.47 that hands the number of bits over as a bias and always finds the
    narrowest threshold, so mean squared errors are left to the calibrator that is made for them.
    """
    from modelopt.torch.quantization.calib import HistogramCalibrator, MaxCalibrator
    from modelopt.torch.quantization.calib.mse import MseCalibrator
    from modelopt.torch.quantization.tensor_quant import fake_tensor_quant
    finer_than_bins = quantizer.bits > 8  # and entropy compares the levels with the bins, as ours does
    if observer == "minmax" or (observer == "entropy" and finer_than_bins):
        return MaxCalibrator()
    if observer == "mse":
        return MseCalibrator(torch.tensor(largest), None, MSE_STEP, *MSE_RANGE,
                             lambda x, amax: fake_tensor_quant(x, amax, None, quantizer.bits, False, False))
    return HistogramCalibrator(quantizer.bits)


def _amax(calibrator: Any, observer: str) -> Any:
    """The threshold after everything was seen."""
    from modelopt.torch.quantization.calib import HistogramCalibrator
    if not isinstance(calibrator, HistogramCalibrator):
        return calibrator.compute_amax()
    return calibrator.compute_amax(observer, **({"stride": ENTROPY_STRIDE} if observer == "entropy" else {}))


def _tensor_quantizer(**attributes: Any) -> Any:
    """Symmetric, down to -128, with gradients for the values that it does not clip, as ours."""
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer
    return TensorQuantizer(QuantizerAttributeConfig(narrow_range=False, pass_through_bwd=False, **attributes))


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)
