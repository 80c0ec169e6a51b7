"""The steps of optimization that a recipe may ask for, with their settings. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekp.errors import RecipeError
from edgekp.strict import require_above_zero


@dataclass(frozen=True)
class Prune:
    """Remove whole channels by dependency groups, then train on to recover.

    Attributes:
        macs_reduction: share of the multiply-accumulates to remove, unless one of the next two is above 0.
        parameters_reduction: share of the parameters, in place of MACs.
        latency_reduction: share of the time of one call, measured on this machine on the model exported for ``target``.
        importance: what makes a channel worth keeping; ``random`` is a control.
        sensitivity: first prune each group alone and measure; groups that this hurts keep more of their channels.
        round_to: channels stay multiples of it; 0 for what ``target`` runs fast.
        target: one of deploy/targets.
        rounds: removes it in so many equal parts, with ``round_epochs`` of training after each but the last.
        epochs: of training after the last round.
    """

    method: Literal["prune"]
    macs_reduction: float = 0.3
    importance: Literal["l1", "l2", "bn_scale", "taylor", "random"] = "l2"
    round_to: int = 8
    epochs: int = 5
    lr: float = 1e-3
    parameters_reduction: float = 0.0
    latency_reduction: float = 0.0
    sensitivity: bool = False
    target: str = "cpu"
    rounds: int = 1
    round_epochs: int = 1

    def __post_init__(self) -> None:
        require_above_zero("optimize.prune", self, "epochs", "lr", "rounds", "round_epochs")
        if self.round_to < 0:
            raise RecipeError(f"optimize.prune.round_to: {self.round_to}, expected a multiple, or 0 for the target's")
        if self.parameters_reduction and self.latency_reduction:
            raise RecipeError("optimize.prune: parameters_reduction and latency_reduction are two goals; name one")
        if not 0 < self.reduction < 1:
            raise RecipeError(f"optimize.prune.{self.goal}_reduction: {self.reduction}, "
                              "expected a share between 0 and 1")

    @property
    def goal(self) -> Literal["macs", "parameters", "latency"]:
        """What is to shrink."""
        return "latency" if self.latency_reduction else "parameters" if self.parameters_reduction else "macs"

    @property
    def reduction(self) -> float:
        """The share of it that is to go."""
        return self.latency_reduction or self.parameters_reduction or self.macs_reduction


@dataclass(frozen=True)
class Distill:
    """Train the current model on what a teacher says, mixed with the labels.

    Attributes:
        teacher: ``float`` for the baseline of this run, or the folder of any checkpoint with the same contract.
        weight: share of the teacher in the loss, 0 to 1.
        technique: what is learnt of the teacher: its outputs, its features, both with a share that fades (DWPose), or
            its coordinates wherever they are nearer to the label than the student's.
        features: modules of both networks whose last map is learnt; by default the backbone.
        temperature: softens the bins of codec ``simcc``.
    """

    method: Literal["distill"]
    teacher: str = "float"
    weight: float = 0.5
    technique: Literal["output", "feature", "dwpose", "coordinate"] = "output"
    features: tuple[str, ...] = ()
    temperature: float = 1.0
    epochs: int = 5
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require_above_zero("optimize.distill", self, "temperature", "epochs", "lr")
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
        target: one of deploy/targets, as which repairs are exported and judged.
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
    target: str = "cpu"


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
