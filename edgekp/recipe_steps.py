"""The steps of optimization that a recipe may ask for, with their settings. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekp.errors import RecipeError
from edgekp.strict import require_above_zero


@dataclass(frozen=True)
class Prune:
    """Remove whole channels by dependency groups, then train on to recover."""

    method: Literal["prune"]
    macs_reduction: float = 0.3
    importance: Literal["l1", "l2", "bn_scale", "random"] = "l2"
    round_to: int = 8
    epochs: int = 5
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require_above_zero("optimize.prune", self, "round_to", "epochs", "lr")
        if not 0 < self.macs_reduction < 1:
            raise RecipeError(f"optimize.prune.macs_reduction: {self.macs_reduction}, expected a share between 0 and 1")


@dataclass(frozen=True)
class Distill:
    """Train the current model on what a teacher says, mixed with the labels.

    Attributes:
        teacher: ``float`` for the baseline of this run, or the folder of any checkpoint with the same contract.
        weight: share of the teacher in the loss, 0 to 1.
    """

    method: Literal["distill"]
    teacher: str = "float"
    weight: float = 0.5
    epochs: int = 5
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require_above_zero("optimize.distill", self, "epochs", "lr")
        if not 0 <= self.weight <= 1:
            raise RecipeError(f"optimize.distill.weight: {self.weight}, expected a share from 0 to 1")


@dataclass(frozen=True)
class Quantize:
    """INT8 weights (per channel) and activations (per tensor), symmetric, from training images only.

    Attributes:
        observer: how the threshold of an activation follows from what was seen.
        keep_float: modules that stay in float, by name; ``head.output`` is the last convolution.
        int16: activations with 16 bits instead of 8, by the name of the layer that gives them.
        equalize: even out the ranges of channels between layers before weights are rounded.
        correct_bias: take the mean error of rounding out of the biases.
        rounding: each weight to the nearest level, or up or down as the layer's output wants it (AdaRound).
        backend: who finds the scales of activations.
        repair: climb the ladder of repairs until the gate passes.
    """

    method: Literal["quantize"]
    observer: Literal["minmax", "percentile", "entropy", "mse"] = "mse"
    images: int = 256
    keep_float: tuple[str, ...] = ("head.output",)
    int16: tuple[str, ...] = ()
    equalize: bool = False
    correct_bias: bool = False
    rounding: Literal["nearest", "adaptive"] = "nearest"
    backend: Literal["edgekp", "modelopt"] = "edgekp"
    repair: bool = False


@dataclass(frozen=True)
class Qat:
    """Train a quantized network on, with the rounding in the forward pass.

    Attributes:
        teacher: as of ``distill``; empty for the labels alone.
        backend: whose fake quantizers round while it trains.
    """

    method: Literal["qat"]
    teacher: str = "float"
    weight: float = 0.5
    epochs: int = 2
    lr: float = 1e-4
    backend: Literal["edgekp", "modelopt"] = "edgekp"

    def __post_init__(self) -> None:
        require_above_zero("optimize.qat", self, "epochs", "lr")
        if not 0 <= self.weight <= 1:
            raise RecipeError(f"optimize.qat.weight: {self.weight}, expected a share from 0 to 1")


Step = Prune | Distill | Quantize | Qat
