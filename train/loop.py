"""The training loop, used by training, recovery after pruning and distillation alike."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import nn

from train.history import Entry
from train.interruption import signals_kept
from train.lessons import Lessons
from train.precision import Precision, precision_for
from train.run import Run
from train.task import Task
from train.world import World


def fit(net: nn.Module, task: Task, device: torch.device,
        world: World | None = None) -> tuple[nn.Module, list[Entry]]:
    """Train ``net`` on one task; the averaged network in evaluation mode, and the history, one entry per epoch.

    Raises:
        TrainingError: The loss is no longer a finite number, or has exploded.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state is saved as it was after the last whole step.
    """
    world, precision = world or World(), precision_for(task.settings, device)
    return learn(net, task, Lessons(task, precision, device, world), precision, device, world)


def learn(net: nn.Module, task: Task, lessons: Lessons, precision: Precision, device: torch.device,
          world: World) -> tuple[nn.Module, list[Entry]]:
    """``fit`` on any lessons; ``task`` says how they are learnt, and where the state of the run is kept."""
    run = Run(net, task, lessons, precision, device, world)
    with signals_kept() as interruption, closing(lessons.from_step(run.progress.step)) as steps:
        while not run.is_over:
            for lesson in run.rest_of_epoch(steps):
                run.step(lesson)
                run.heed(interruption)
            run.end_epoch()
            run.heed(interruption)
    return run.result(), run.history
