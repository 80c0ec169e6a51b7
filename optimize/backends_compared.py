"""Our scales and ModelOpt's side by side: how far each moves the keypoints of a network. Knows no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from edgekp.contract import Contract
from edgekp.recipe_steps import Quantize
from edgekp.sample import Float, Instance
from optimize.modelopt_backend import is_installed
from optimize.ptq import quantize_network
from optimize.sensitivity import choose_probe
from optimize.step import Context
from train.models.checkpoint import Checkpoint

CALIBRATED = 64  # images: the comparison is to cost seconds


def compare_backends(parent: Checkpoint, settings: Quantize, context: Context, chosen: Sequence[Instance],
                     inputs: Tensor) -> dict[str, float]:
    """Mean distance in input pixels between the keypoints of the float network and those after quantization.

    By backend; each finds its scales from the same 64 of the calibration ``inputs`` of the ``chosen`` instances, with
    weights rounded to the nearest level. The distance is that on training images that none has seen, as long as there
    are some. Empty for networks that see whole scenes.
    """
    contract = parent.contract
    if not isinstance(contract, Contract):
        return {}
    unseen = choose_probe([one for pool in context.train for one in pool.instances], chosen, contract).inputs
    unseen = unseen.to(inputs.device)
    expected_xy = _keypoints(parent.net.to(inputs.device), unseen, contract)
    few = inputs[np.linspace(0, len(inputs) - 1, min(CALIBRATED, len(inputs))).astype(int)]
    shifts = {}
    for backend in ("edgekp", "modelopt") if is_installed() else ("edgekp",):
        plain = replace(settings, backend=backend, rounding="nearest", repair=False)
        xy = _keypoints(quantize_network(parent, plain, few).net, unseen, contract)
        shifts[backend] = float(np.linalg.norm(xy - expected_xy, axis=-1).mean())
    return shifts


@torch.no_grad()
def _keypoints(net: nn.Module, inputs: Tensor, contract: Contract) -> Float:
    """(N, K, 2) input pixels."""
    outputs = net.eval()(inputs)
    found, _ = contract.codec.decode({name: value.float().cpu().numpy()
                                      for name, value in zip(contract.outputs, outputs, strict=True)})
    return found
