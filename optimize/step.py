"""What a step of optimization is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekp.recipe import Recipe
from train.dataset import Pool
from train.history import Entry
from train.loader import monitor_of
from train.loop import fit
from train.models import ModelSpec
from train.models.checkpoint import Checkpoint
from train.task import Task, Teacher


@dataclass(frozen=True)
class Context:
    """What every step may use: the recipe, the data, and the folder of the float baseline."""

    recipe: Recipe
    train: list[Pool]
    val: list[Pool]
    baseline: Path
    device: torch.device

    def fine_tune(self, checkpoint: Checkpoint, net: nn.Module, label: str, epochs: int, lr: float,
                  teacher: Teacher | None = None) -> tuple[nn.Module, list[Entry]]:
        """Train on with the recipe's own loss, batches and augmentation."""
        settings = replace(self.recipe.train, epochs=epochs, lr=lr)
        task = Task(label, checkpoint.contract, self.train, self.val, settings, self.recipe.augment, teacher,
                    monitor=monitor_of(checkpoint.contract, self.recipe.eval.metric))
        return fit(net, task, self.device)


@dataclass(frozen=True)
class Result:
    """A network after a step, how to rebuild it, and what the step did, in numbers."""

    net: nn.Module
    spec: ModelSpec
    report: dict[str, Any]
    history: list[Entry]
