"""What one run of gradient descent learns, on what and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from edgekp.contract import AnyContract
from edgekp.recipe import Augment, Train
from train.dataset import Pool
from train.history import PCK, Monitor


@dataclass(frozen=True)
class Teacher:
    """A network whose outputs are learnt beside the labels, and its share of the loss."""

    net: nn.Module
    weight: float


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
