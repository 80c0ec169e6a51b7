"""Two tasks that share a backbone and learn together: a batch of each in every step, whose losses have shares."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

import torch
from torch import nn

from train.history import Entry
from train.lessons import Lessons
from train.loop import learn
from train.models import KeypointNet
from train.models.multitask import MultiTaskNet
from train.precision import Precision, precision_for
from train.stepper import Lesson
from train.task import Task
from train.world import World


def fit_together(net: MultiTaskNet, main: Task, second: Task, share: float, device: torch.device,
                 world: World | None = None) -> tuple[list[KeypointNet], list[Entry]]:
    """Train ``net`` on two tasks; the averaged network of each in evaluation mode, and the history.

    Args:
        main: says how both are learnt; of ``second.settings``, only what concerns its batches and its loss is read.
        second: its label is the name of its metrics.
        share: of the second task in the loss of a step.

    Raises:
        TrainingError, KeyboardInterrupt: As of ``train.loop.fit``.
    """
    world, precision = world or World(), precision_for(main.settings, device)
    lessons = SharedLessons(main, second, share, precision, device, world)
    averaged, history = learn(net, main, lessons, precision, device, world)
    assert isinstance(averaged, MultiTaskNet)
    return averaged.alone(), history


class SharedLessons(Lessons):
    """The lessons of two tasks: one of each a step, of as many samples.

    An epoch is one of the main task. The second one's samples go on through epochs of their own length, each of which
    shows all of them.
    """

    def __init__(self, main: Task, second: Task, share: float, precision: Precision, device: torch.device,
                 world: World) -> None:
        super().__init__(main, precision, device, world)
        total_steps = main.settings.epochs * self.steps_per_epoch  # as many epochs are enough: one has a step at least
        settings = replace(second.settings, epochs=total_steps, batch=main.settings.batch, seed=main.settings.seed)
        self.second, self.share = Lessons(replace(second, settings=settings), precision, device, world), share
        self.images_per_step += self.second.images_per_step

    def from_step(self, step: int) -> Generator[list[Lesson], None, None]:
        """The lessons of both tasks in each step of the run from ``step`` on."""
        with closing(super().from_step(step)) as main, closing(self.second.from_step(step)) as second:
            for (mine,), (theirs,) in zip(main, second, strict=False):
                yield [replace(mine, share=1 - self.share), replace(theirs, share=self.share)]

    def examine(self, net: nn.Module) -> Entry:
        """The metrics of both tasks; those of the second bear its name, as in ``val_face_error``."""
        assert isinstance(net, MultiTaskNet)
        main, second = net.alone()
        named = {name.replace("val_", f"val_{self.second.task.label}_", 1): value
                 for name, value in self.second.examine(second).items()}
        return super().examine(main) | named
