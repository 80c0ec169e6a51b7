"""One training run: its state, what a step and the end of an epoch do to it, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from time import monotonic

import torch
from torch import Tensor, nn

from edgekp.errors import TrainingError
from edgekp.stage import say
from train.averaging import average_of, measure_statistics
from train.history import Entry, best_entry, has_stalled
from train.interruption import Interruption
from train.lessons import Lessons
from train.precision import Precision
from train.reporter import Reporter
from train.resume import State, load_state, save_state
from train.schedule import rate_of
from train.stepper import Lesson, Stepper
from train.task import Task
from train.world import World

SAVE_EVERY_S = 300.0  # within an epoch: what a power cut costs at most
EXPLODED = 1e3  # times the loss of the first step, which is that of a network that knows nothing
STATISTICS_STEPS = 50  # batches that say the batch-norm statistics of averaged weights


class Run:
    """A network that learns ``lessons``; ``task`` says how, and where its state is kept."""

    def __init__(self, net: nn.Module, task: Task, lessons: Lessons, precision: Precision, device: torch.device,
                 world: World) -> None:
        self.task, self.settings, self.lessons, self.device, self.world = task, task.settings, lessons, device, world
        net = net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = average_of(net, self.settings)
        optimizer = torch.optim.AdamW(net.parameters(), self.settings.lr, weight_decay=self.settings.weight_decay)
        self.state = State(net, self.average.net, optimizer, precision.scaler)
        if task.resume and task.state:
            load_state(task.state, task.identity, self.state, world.size)
        self.progress = self.state.progress
        self.stepper = Stepper(net, self.settings, optimizer, precision, device, world)
        self.reporter = Reporter(task, lessons.steps_per_epoch, lessons.images_per_step, self.progress.step,
                                 silent=not world.is_first)
        self.saved_at = monotonic()

    @property
    def history(self) -> list[Entry]:
        return self.progress.history

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or the metric has not improved for as long as the recipe is patient."""
        return len(self.history) >= self.settings.epochs or self._has_stalled

    def rest_of_epoch(self, steps: Iterator[list[Lesson]]) -> Iterator[list[Lesson]]:
        """The lessons up to the end of the epoch."""
        epoch = len(self.history) + 1
        left = epoch * self.lessons.steps_per_epoch - self.progress.step
        return self.reporter.bar(islice(steps, left), epoch, self.lessons.steps_per_epoch - left)

    def step(self, lessons: list[Lesson]) -> None:
        """Learn the lessons of one step."""
        progress = self.progress
        loss, moved = self.stepper.step(lessons, self._rate(progress.step))
        progress.first_loss = progress.first_loss or loss
        progress.step += 1
        self._require_sane(loss)
        progress.loss_sum += loss
        if moved:
            self.average.after_step(self.state.net, progress.moved)
            progress.moved += 1

    def end_epoch(self) -> None:
        """Sum up the epoch, examine the average, tell and save."""
        progress, epoch = self.progress, len(self.history) + 1
        entry = {"epoch": float(epoch), "loss": progress.loss_sum / self.lessons.steps_per_epoch,
                 "lr": self._rate(progress.step - 1)}
        self.average.after_epoch(self.state.net, epoch)
        if epoch % self.settings.validate_every == 0 or epoch == self.settings.epochs:
            entry |= self._examine()
        self.history.append(entry)
        progress.loss_sum = 0.0
        self._keep_the_best()
        self.reporter.tell(self.history)
        self._save()

    def heed(self, interruption: Interruption) -> None:
        """End the run where somebody asked for it, in this process or another; save it from time to time.

        Raises:
            KeyboardInterrupt: The run was asked to end; its state is saved.
        """
        if self.world.any(interruption.asked):
            self._save()
            if self.task.state and self.world.is_first:
                say(f"{self.task.label}: stopped after step {self.progress.step} of {self._total_steps}; "
                    f"--resume goes on from there ({self.task.state})")
            raise KeyboardInterrupt
        if monotonic() - self.saved_at > SAVE_EVERY_S:
            self._save()

    def result(self) -> nn.Module:
        """The averaged network in evaluation mode: of the last epoch, or with ``train.patience`` of the best."""
        best = best_entry(self.history, self.task.monitor)
        if self.state.best and best:
            self.average.net.load_state_dict(self.state.best)
            if self.world.is_first:
                end = f"stopped early: {self.settings.patience} validations without improvement; " \
                    if self._has_stalled else ""
                say(f"{self.task.label}: {end}the weights are those of epoch {int(best['epoch'])}, whose "
                    f"{self.task.monitor.name} of {best[self.task.monitor.name]:.4g} is the best")
        return self.average.net

    @property
    def _has_stalled(self) -> bool:
        return has_stalled(self.history, self.task.monitor, self.settings.patience)

    @property
    def _total_steps(self) -> int:
        return self.settings.epochs * self.lessons.steps_per_epoch

    def _rate(self, step: int) -> float:
        return rate_of(self.settings, step, self.lessons.steps_per_epoch)

    def _examine(self) -> Entry:
        if self.average.borrows_statistics:
            with closing(self.lessons.from_step(0)) as steps:
                first = islice(steps, min(STATISTICS_STEPS, self.lessons.steps_per_epoch))
                measure_statistics(self.average.net, self._inputs(first), self.world)
        return self.lessons.examine(self.average.net)

    def _inputs(self, steps: Iterator[list[Lesson]]) -> Iterator[tuple[Tensor, ...]]:
        for lessons in steps:
            yield tuple(lesson.batch.inputs.to(self.device, memory_format=torch.channels_last) for lesson in lessons)

    def _keep_the_best(self) -> None:
        if self.settings.patience and best_entry(self.history, self.task.monitor) is self.history[-1]:
            self.state.best = {name: value.clone() for name, value in self.average.net.state_dict().items()}

    def _save(self) -> None:
        if self.task.state and self.world.is_first:
            save_state(self.task.state, self.task.identity, self.state, self.world.size)
        self.saved_at = monotonic()

    def _require_sane(self, loss: float) -> None:
        """Refuse to go on where the run has diverged; most do so within their first epoch, and never recover."""
        first = self.progress.first_loss
        if math.isfinite(loss) and loss <= EXPLODED * first:
            return
        growth = f", {loss / first:.0f} times that of the first" if math.isfinite(loss / first) else ""
        raise TrainingError(f"{self.task.label}: the loss is {loss:.3g} at step {self.progress.step} of "
                            f"{self._total_steps}{growth}; try a lower learning rate than {self.settings.lr:g}, a "
                            "longer train.warmup_steps or train.precision=\"fp32\"")
