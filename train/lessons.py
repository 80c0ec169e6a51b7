"""The lessons of a run, step by step, and the examination after an epoch. A run of several tasks brings its own."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import nn

from train.dataset import StepSampler
from train.history import Entry
from train.loader import measure, training_batches
from train.objective import Objective
from train.precision import Precision
from train.stepper import Lesson
from train.task import Task
from train.world import World


class Lessons:
    """The lessons of one task: one a step.

    Attributes:
        steps_per_epoch: how many lessons an epoch has.
        images_per_step: of all processes together.
    """

    def __init__(self, task: Task, precision: Precision, device: torch.device, world: World) -> None:
        self.task, self.device, self.world = task, device, world
        self.objective = Objective(task, precision)
        self.steps_per_epoch = self._sampler(0).steps_per_epoch
        self.images_per_step = task.settings.batch

    def from_step(self, step: int) -> Generator[list[Lesson], None, None]:
        """The lessons of each step of the run from ``step`` on; those of a step are the same in every run."""
        task = self.task
        last = max(1, task.settings.epochs * self.steps_per_epoch - 1)
        batches = training_batches(task.train, task.contract, task.augment, self._sampler(step),
                                   task.settings.workers, task.settings.keypoint_weights)
        for number, batch in enumerate(batches, step):
            yield [Lesson(batch, self.objective.at(number / last))]

    def examine(self, net: nn.Module) -> Entry:
        """The metrics of ``net`` on the validation sets; none where there are no such sets."""
        if not any(pool.size for pool in self.task.val):
            return {}
        metrics = measure(net, self.task.val, self.task.contract, self.device, self.world)
        return {f"val_{name}": value for name, value in metrics.items()}

    def _sampler(self, first_step: int) -> StepSampler:
        settings = self.task.settings
        return StepSampler(self.task.train, settings.batch, settings.epochs, settings.seed, first_step, self.world)
