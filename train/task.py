"""What one run of gradient descent learns, on what and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from edgekp.contract import AnyContract
from edgekp.recipe_augment import Augment
from edgekp.recipe_train import Train
from train.dataset import Pool
from train.history import PCK, Monitor


@dataclass(frozen=True)
class Teacher:
    """A network that is learnt from beside the labels, and its share of the loss.

    Attributes:
        net: frozen, in evaluation mode.
        outputs: whether its outputs are learnt, as the loss of the labels compares them.
        features: modules of it whose features are learnt; the student is then a ``Pupil`` that says as many.
        fades: whether its share falls to 0 by the last step, linearly.
        bounded: whether it is not heard of a keypoint where the student is nearer to the label.
        temperature: of its bins, with codec ``simcc``.
    """

    net: nn.Module
    weight: float
    outputs: bool = True
    features: tuple[str, ...] = ()
    fades: bool = False
    bounded: bool = False
    temperature: float = 1.0

    def share(self, done: float) -> float:
        """Its share of the loss where that part of the run is done: 0 at the first step, 1 at the last."""
        return self.weight * (1 - done) if self.fades else self.weight


@dataclass(frozen=True)
class Task:
    """What is learnt, on what and how.

    Attributes:
        state: file of the resumable state, or None for runs too short to resume.
        identity: what the state belongs to; resuming under another identity is refused.
        monitor: what ``train.patience`` goes by.
        tensorboard: folder of TensorBoard's scalars, or None for none.
    """

    label: str
    contract: AnyContract
    train: list[Pool]
    val: list[Pool]
    settings: Train
    augment: Augment
    teacher: Teacher | None = None
    state: Path | None = None
    resume: bool = False
    identity: dict[str, Any] = field(default_factory=dict)
    monitor: Monitor = PCK
    tensorboard: Path | None = None
