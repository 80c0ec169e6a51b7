"""Losses by name: how far a network's outputs are from a codec's targets, for each keypoint with its weight (N, K).

A loss is told keypoint by keypoint and already weighted; ``mean`` divides the sum by the weight of the whole batch,
which may be spread over several parts (gradient accumulation) and processes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from edgekp.codecs import (
    Codec,
    HeatmapOffset,
    Integral,
    Megvii,
    OpenPose,
    Regression,
    SceneCodec,
    SimCC,
    UDPCombined,
    codec_to_json,
)
from edgekp.contract import AnyContract
from edgekp.errors import RecipeError, unknown_name
from train.losses.adaptive_wing import adaptive_wing
from train.losses.bins import SIMCC_SHARPNESS, as_distributions, cross_entropy, kl
from train.losses.coordinates import SMOOTH_WIDTH, WING_EPSILON, WING_WIDTH, smooth_l1, wing
from train.losses.elementwise import l1, mse
from train.losses.focal import focal
from train.losses.hard_keypoints import ohkm
from train.losses.loss import Loss, Tensors, mean
from train.losses.offsets import OFFSET_SHARE, heatmap_offset, udp_combined
from train.losses.oks import oks, seen_by
from train.losses.paf import openpose
from train.losses.soft_argmax import integral, joint
from train.models.spec import ModelSpec

__all__ = ["LOSSES", "OFFSET_SHARE", "SIMCC_SHARPNESS", "SMOOTH_WIDTH", "WING_EPSILON", "WING_WIDTH", "Loss", "Tensors",
           "adaptive_wing", "check_loss", "cross_entropy", "focal", "heatmap_offset", "integral", "joint", "kl", "l1",
           "loss_named", "mean", "mse", "ohkm", "oks", "openpose", "smooth_l1", "udp_combined", "wing"]


def _has_heatmaps(codec: Codec | SceneCodec) -> bool:
    return codec.outputs == ("heatmaps",) and not isinstance(codec, Integral)


def _has_heat(codec: Codec | SceneCodec) -> bool:
    """Heatmaps with a peak of 1."""
    return _has_heatmaps(codec) and not isinstance(codec, Megvii)


def _has_coordinates(codec: Codec | SceneCodec) -> bool:
    return isinstance(codec, Regression)


LOSSES: dict[str, Loss] = {
    "mse": Loss(mse, lambda codec: _has_heatmaps(codec) or _has_coordinates(codec)),
    "ohkm": Loss(ohkm, _has_heatmaps),
    "adaptive_wing": Loss(adaptive_wing, _has_heat),
    "focal": Loss(focal, _has_heat, probabilities=True),
    "joint": Loss(joint, _has_heat),
    "wing": Loss(wing, _has_coordinates),
    "l1": Loss(l1, lambda codec: _has_heatmaps(codec) or _has_coordinates(codec)),
    "smooth_l1": Loss(smooth_l1, _has_coordinates),
    "oks": Loss(oks, _has_coordinates, told=seen_by),
    "heatmap_offset": Loss(heatmap_offset, lambda codec: isinstance(codec, HeatmapOffset)),
    "udp_combined": Loss(udp_combined, lambda codec: isinstance(codec, UDPCombined)),
    "kl": Loss(kl, lambda codec: isinstance(codec, SimCC) and codec.smoothing == "gaussian"),
    "cross_entropy": Loss(cross_entropy, lambda codec: isinstance(codec, SimCC) and codec.smoothing != "gaussian",
                          taught=as_distributions),
    "integral": Loss(integral, lambda codec: isinstance(codec, Integral)),
    "openpose": Loss(openpose, lambda codec: isinstance(codec, OpenPose)),
}


def loss_named(name: str, contract: AnyContract) -> Loss:
    """The loss of that name for the targets of that contract.

    Raises:
        RecipeError: There is none, or it does not read such targets.
    """
    if name not in LOSSES:
        raise RecipeError(f"train.loss: {unknown_name('loss', name, list(LOSSES))}")
    loss, codec = LOSSES[name], contract.codec
    if not loss.fits(codec):
        fitting = [other for other, loss in LOSSES.items() if loss.fits(codec)]
        raise RecipeError(f"train.loss: '{name}' does not read the targets of codec '{codec_to_json(codec)['name']}' "
                          f"with these options; those that do: {', '.join(fitting)}")
    return replace(loss, of=partial(loss.of, **loss.told(contract)))


def check_loss(name: str, contract: AnyContract, spec: ModelSpec) -> None:
    """Refuse a loss before it meets data: one that does not fit the contract, or a head of another range.

    Raises:
        RecipeError: As of ``loss_named``; also for a loss of probabilities without a sigmoid in the head, and for a
            sigmoid where targets lie outside 0..1.
    """
    loss, codec = loss_named(name, contract), contract.codec
    sigmoid = spec.head_options.get("sigmoid", False)
    if loss.probabilities and not sigmoid:
        raise RecipeError(f"train.loss: '{name}' reads probabilities, but head '{spec.head}' has no sigmoid; write "
                          "head_options = { sigmoid = true } below [model], or choose mse or adaptive_wing")
    if sigmoid and not _has_heat(codec):
        raise RecipeError(f"model.head_options.sigmoid: true, but codec '{codec_to_json(codec)['name']}' has targets "
                          "outside 0..1; leave it out")
