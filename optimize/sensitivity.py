"""What each layer's quantization costs: one layer at a time on the int8 grid, all others in float.

One layer at a time rather than all but one: where two layers are broken, each hides what leaving the other one in
float would bring. Works on the rounded network in torch, so that no layer needs an export. Knows no ladder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekp.contract import Contract
from edgekp.preprocess import crop_affine
from edgekp.sample import Bool, Float, Instance
from edgekp.similarity import oks
from eval.layer_errors import sqnr_db
from train.dataset import KeypointDataset
from train.models.quantized import FakeQuantizer, QuantLayer, fake_quantizers, quant_convs, set_enabled

PROBED = 64  # instances
BATCH = 32
IN_DETAIL = 5  # layers, the worst ones, whose weights and activations are told apart


@dataclass(frozen=True)
class Probe:
    """N labelled crops to measure on, in the pixels of the network's input.

    Attributes:
        inputs: (N, 3, h, w).
        true_xy: (N, K, 2).
        labelled: (N, K).
        area_px2: (N,).
    """

    inputs: Tensor
    true_xy: Float
    labelled: Bool
    area_px2: Float
    contract: Contract

    def oks(self, keypoints_xy: Float) -> float:
        """Mean over the instances."""
        sigmas = self.contract.skeleton.sigma_array
        return float(oks(keypoints_xy, self.true_xy, self.labelled, self.area_px2, sigmas).mean())


@dataclass(frozen=True)
class LayerCost:
    """One layer on the grid, all others in float.

    Attributes:
        layer: a convolution with the activation that it gives, or another operation with what it gives.
        has_weights, has_activation: what of it is on the grid.
        error_px: mean distance that the decoded keypoints move, input pixels.
        oks_drop: of the mean against the labels.
        sqnr_db: of the network's outputs, 10 log10 of signal over noise energy; infinite where nothing changes.
        weights_px: the same as ``error_px`` with nothing but the weights rounded; told of the worst layers.
        activations_px: the same with nothing but the activation rounded.
    """

    layer: str
    has_weights: bool
    has_activation: bool
    error_px: float
    oks_drop: float
    sqnr_db: float
    weights_px: float | None = None
    activations_px: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"sqnr_db": self.sqnr_db if isfinite(self.sqnr_db) else None}


@dataclass(frozen=True)
class Layer:
    """A convolution, where it is one, and the FakeQuantizer of what it gives, where that is an int8 value."""

    name: str
    conv: QuantLayer | None
    quantizer: FakeQuantizer | None


def choose_probe(instances: Sequence[Instance], calibrated_with: Sequence[Instance], contract: Contract) -> Probe:
    """Training instances, evenly from all that calibration has not seen, or from all where it has seen all."""
    seen = {id(instance) for instance in calibrated_with}
    unseen = [instance for instance in instances if id(instance) not in seen] or list(instances)
    drawn = np.linspace(0, len(unseen) - 1, min(PROBED, len(unseen))).round().astype(int)
    chosen = tuple(unseen[i] for i in drawn)
    dataset = KeypointDataset(chosen, contract, None, 0)
    inputs, true_xy, visibility = (np.stack(part) for part in zip(
        *(dataset.sample(0, i) for i in range(len(chosen))), strict=True))
    spec = contract.input
    magnified = [np.linalg.det(crop_affine(one.bbox_xywh, spec.input_hw, spec.padding, align=spec.align)[:, :2])
                 for one in chosen]
    area_px2 = np.array([one.area_px2 for one in chosen]) * np.abs(magnified)
    return Probe(torch.from_numpy(inputs), true_xy, visibility > 0, area_px2, contract)


@torch.no_grad()
def layer_costs(net: nn.Module, probe: Probe) -> list[LayerCost]:
    """Every layer's cost, the one that moves the keypoints most first.

    Args:
        net: with all scales set, and with weights that are still those of the float network.
    """
    set_enabled(net, weights=False, activations=False)
    base = _Look(net, probe)
    layers = layers_of(net)
    costs = {}
    for layer in layers:
        seen = base.with_rounded(layer.conv, layer.quantizer)
        costs[layer.name] = LayerCost(layer.name, layer.conv is not None, layer.quantizer is not None,
                                      base.moved_px(seen), base.oks - seen.oks, sqnr_db(base.values, seen.values))
    by_name = {layer.name: layer for layer in layers}
    ranked = sorted(costs.values(), key=lambda cost: cost.error_px, reverse=True)
    found = [_in_detail(cost, by_name[cost.layer], base) for cost in ranked[:IN_DETAIL]] + ranked[IN_DETAIL:]
    set_enabled(net, weights=True, activations=True)
    return found


def layers_of(net: nn.Module) -> list[Layer]:
    """Everything that rounds; what a quantizer rounds belongs to the layer that gives it first."""
    convs, quantizer_of = quant_convs(net), {rounds.layer: rounds for rounds in fake_quantizers(net).values()}
    return [Layer(name, convs.get(name), quantizer_of.get(name)) for name in dict.fromkeys([*quantizer_of, *convs])]


class _Look:
    """What a network says of the probe: outputs (N, ...) in a row, keypoints (N, K, 2) and mean OKS."""

    def __init__(self, net: nn.Module, probe: Probe) -> None:
        self.net, self.probe = net, probe
        device = next(net.parameters()).device
        batches = [net(batch.to(device)) for batch in torch.split(probe.inputs, BATCH)]
        arrays = [torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True)]
        self.values = np.concatenate([array.ravel() for array in arrays])
        outputs, codec = dict(zip(probe.contract.outputs, arrays, strict=True)), probe.contract.codec
        self.keypoints_xy, _ = codec.decode({name: outputs[name] for name in codec.outputs})
        self.oks = probe.oks(self.keypoints_xy)

    def with_rounded(self, *parts: QuantLayer | FakeQuantizer | None) -> _Look:
        """The same network with these parts on the grid."""
        there = [part for part in parts if part is not None]
        for part in there:
            part.enabled = True
        seen = _Look(self.net, self.probe)
        for part in there:
            part.enabled = False
        return seen

    def moved_px(self, other: _Look) -> float:
        return float(np.linalg.norm(other.keypoints_xy - self.keypoints_xy, axis=-1).mean())


def _in_detail(cost: LayerCost, layer: Layer, base: _Look) -> LayerCost:
    weights_px, activations_px = (None if part is None else base.moved_px(base.with_rounded(part))
                                  for part in (layer.conv, layer.quantizer))
    return replace(cost, weights_px=weights_px, activations_px=activations_px)
