"""What a loss is, and how the weighted losses of keypoints become one number. Knows no formula and no codec's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgekp.codecs import Codec, SceneCodec
from edgekp.contract import AnyContract

Tensors = tuple[Tensor, ...]  # one for each of the codec's outputs, (N, K, ...)


def as_they_are(outputs: Tensors) -> Tensors:
    return outputs


def nothing(_: AnyContract) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Loss:
    """A loss by its formula, and by what it can be used for.

    Attributes:
        of: (outputs, targets, weight) to the weighted loss of each keypoint, or of each cell of a scene; its sum is
            that of the batch.
        fits: whether it reads this codec's targets.
        taught: what a teacher's outputs are as targets.
        told: further keywords of ``of``, from what the keypoints and the input are; ``loss_named`` fills them in.
        probabilities: whether the outputs must lie in 0..1, as a head with a sigmoid says them.
    """

    of: Callable[..., Tensor]
    fits: Callable[[Codec | SceneCodec], bool]
    taught: Callable[[Tensors], Tensors] = as_they_are
    told: Callable[[AnyContract], dict[str, Any]] = nothing
    probabilities: bool = False


def mean(weighted: Tensor, total_weight: Tensor) -> Tensor:
    """The loss of a batch, from that of each keypoint; 0 where nothing has a weight."""
    return weighted.sum() / total_weight.clamp_min(1.0)


def squared(error: Tensor) -> Tensor:
    """(N, K) the sum of the squares of each keypoint."""
    return error.square().flatten(2).sum(-1)
