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
        keep_float: modules that stay in float, by name; ``head.output`` is the last convolution.
    """

    method: Literal["quantize"]
    observer: Literal["minmax", "percentile", "mse"] = "mse"
    images: int = 256
    keep_float: tuple[str, ...] = ("head.output",)


Step = Prune | Distill | Quantize
