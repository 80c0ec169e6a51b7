"""What a run says while it goes: a bar, one line an epoch, a CSV of the history and TensorBoard's scalars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from edgekp.atomic import write_file
from edgekp.errors import RecipeError
from edgekp.stage import say
from train.history import Entry, to_csv
from train.task import Task

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

T = TypeVar("T")


class Reporter:
    """Tells of a run of ``steps_per_epoch``; a silent one, as of all processes but the first, says nothing."""

    def __init__(self, task: Task, steps_per_epoch: int, images_per_step: int, first_step: int, *,
                 silent: bool) -> None:
        self.task, self.silent = task, silent
        self.steps_per_epoch, self.images_per_step = steps_per_epoch, images_per_step
        self.steps, self.step_seconds = 0, 0.0  # of the epoch
        self.started, self.first_step = monotonic(), first_step
        self.writer = None
        if task.tensorboard and not silent:
            self.writer = tensorboard_writer(task.tensorboard, 1 + first_step // steps_per_epoch)

    def bar(self, lessons: Iterable[T], epoch: int, done: int) -> Iterator[T]:
        """``lessons``, with a bar on a terminal; ``done`` steps of the epoch were made before."""
        self.steps, started = 0, monotonic()
        label = f"{self.task.label} {epoch}/{self.task.settings.epochs}"
        with tqdm(lessons, label, initial=done, total=self.steps_per_epoch, unit="step", leave=False, mininterval=1.0,
                  disable=True if self.silent else None) as shown:
            for lesson in shown:
                yield lesson
                self.steps += 1
        self.step_seconds = monotonic() - started

    def tell(self, history: list[Entry]) -> None:
        """The epoch that has just ended, everywhere."""
        if self.silent:
            return
        entry = history[-1]
        if self.task.state:
            write_file(self.task.state.with_suffix(".csv"), to_csv(history))
        if self.writer:
            for name, value in entry.items():
                self.writer.add_scalar(name.replace("@", "_"), value, int(entry["epoch"]))
            self.writer.flush()
        say(f"{self.task.label}: epoch {int(entry['epoch'])}/{self.task.settings.epochs}  {self._numbers(entry)}")

    def _numbers(self, entry: Entry) -> str:
        """Loss, metrics, speed (validation not counted) and how long the rest will take (validation counted)."""
        numbers = [f"{name} {value:.4g}" for name, value in entry.items() if name != "epoch"]
        if self.steps:
            numbers.append(f"{self.steps * self.images_per_step / self.step_seconds:.0f} images/s")
        step = int(entry["epoch"]) * self.steps_per_epoch
        total = self.task.settings.epochs * self.steps_per_epoch
        if step > self.first_step:
            left_s = (monotonic() - self.started) / (step - self.first_step) * (total - step)
            numbers.append(f"{tqdm.format_interval(left_s)} left")
        return "  ".join(numbers)


def tensorboard_writer(folder: Path, first_epoch: int) -> SummaryWriter:
    """A writer into ``folder`` that hides what an earlier run wrote from ``first_epoch`` on.

    Raises:
        RecipeError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RecipeError(f"train.tensorboard: TensorBoard cannot be imported ({error}); "
                          "install it: pip install 'tensorboard>=2.16,<3'") from error
    return SummaryWriter(str(folder), purge_step=first_epoch)
