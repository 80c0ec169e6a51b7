"""How a network is trained, as a recipe says it. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from edgekp.errors import RecipeError
from edgekp.strict import require_above_zero


@dataclass(frozen=True)
class Train:
    """One run of gradient descent (AdamW, linear warm-up, a falling rate, averaged weights).

    Attributes:
        init: a .safetensors, .pt or .pth file whose weights, where names and shapes fit, are the beginning.
        batch: what one optimizer step sees, in all processes and parts together.
        accumulate: parts in which a batch is computed, where the whole does not fit into memory.
        schedule: half a cosine to zero, or a tenth of the rate at each of ``milestones``, as fractions of the run.
        average: which weights are kept: their moving average over the steps (``ema_decay``), their plain mean at the
            end of each epoch in the last ``swa_share`` of the run, at a constant rate, or the last ones.
        loss: must fit the codec; another one is refused with those that fit.
        precision: of the forward pass; ``auto`` is bf16 where that is fast, fp16 is for NVIDIA GPUs.
        compile: whether torch.compile makes kernels of the network; a minute that pays on a GPU.
        patience: validations without improvement after which the run ends, with the best weights; 0 for all epochs.
        tensorboard: whether scalars go to ``runs/<name>/tensorboard``, too.
        keypoint_weights: what each keypoint of the skeleton counts in the loss; by default all count the same.
        visibility_share: what the cross entropy of visibility counts beside ``loss``, where the model says it.
    """

    epochs: int
    init: str = ""
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-2
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[float, ...] = (0.7, 0.9)
    warmup_steps: int = 200
    average: Literal["ema", "swa", "none"] = "ema"
    ema_decay: float = 0.998
    swa_share: float = 0.25
    clip_norm: float = 5.0
    loss: str = "mse"
    keypoint_weights: tuple[float, ...] = ()
    visibility_share: float = 0.1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    accumulate: int = 1
    compile: bool = False
    workers: int = 2
    validate_every: int = 5
    patience: int = 0
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_above_zero("train", self, "epochs", "batch", "lr", "clip_norm", "validate_every", "accumulate",
                           "visibility_share")
        for name in ("workers", "patience", "seed"):
            if getattr(self, name) < 0:
                raise RecipeError(f"train.{name}: {getattr(self, name)}, expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise RecipeError(f"train.ema_decay: {self.ema_decay}, expected 0 to below 1")
        if not 0 < self.swa_share <= 1:
            raise RecipeError(f"train.swa_share: {self.swa_share}, expected a share of the run, above 0 and up to 1")
        if not self.milestones or not all(0 < milestone < 1 for milestone in self.milestones):
            raise RecipeError(f"train.milestones: {list(self.milestones)}, expected fractions of the run, above 0 and "
                              "below 1")
        weights = self.keypoint_weights
        if weights and not (all(0 <= weight < inf for weight in weights) and any(weights)):
            raise RecipeError(f"train.keypoint_weights: {list(weights)}, expected numbers from 0, not all 0")
