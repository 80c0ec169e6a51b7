"""The training loop, used by training, recovery after pruning and distillation alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from edgekp.contract import Contract
from edgekp.errors import TrainingError
from edgekp.recipe import Augment, Train
from train.dataset import Batch, Pool, StepSampler, training_batches
from train.losses import Loss, loss_named
from train.resume import Entry, Progress, load_state, save_state
from train.schedule import Average, learning_rate
from train.validate import validate


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
    """

    label: str
    contract: Contract
    train: list[Pool]
    val: list[Pool]
    settings: Train
    augment: Augment
    teacher: Teacher | None = None
    state: Path | None = None
    resume: bool = False
    identity: dict[str, Any] = field(default_factory=dict)


def fit(net: nn.Module, task: Task, device: torch.device) -> tuple[nn.Module, list[Entry]]:
    """Train ``net``; the averaged network in evaluation mode, and the history, one entry per epoch.

    Raises:
        TrainingError: The loss is no longer a finite number.
    """
    settings = task.settings
    net = net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = Average(net, settings.ema_decay)
    optimizer = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=settings.weight_decay)
    progress = Progress(0, [])
    if task.resume and task.state:
        progress = load_state(task.state, task.identity, net, average.net, optimizer)
    sampler = StepSampler(task.train, settings.batch, settings.epochs, settings.seed, progress.step)
    batches = training_batches(task.train, task.contract, task.augment, sampler, settings.workers)
    total = settings.epochs * sampler.steps_per_epoch
    stepper = _Stepper(net, task, optimizer, device)
    loss_sum = 0.0
    with tqdm(batches, desc=task.label, initial=progress.step, total=total, unit="step", mininterval=1.0) as bar:
        for batch in bar:
            rate = learning_rate(progress.step, total, settings.lr, settings.warmup_steps)
            loss = stepper.step(batch, rate)
            if not math.isfinite(loss):
                raise TrainingError(f"{task.label}: the loss is {loss} at step {progress.step + 1} of {total}; "
                                    f"try a lower learning rate than {settings.lr:g} or train.precision=\"fp32\"")
            average.update(net, progress.step)
            progress.step += 1
            loss_sum += loss
            if progress.step % sampler.steps_per_epoch == 0:
                epoch = progress.step // sampler.steps_per_epoch
                entry = {"epoch": float(epoch), "loss": loss_sum / sampler.steps_per_epoch, "lr": rate}
                loss_sum = 0.0
                if task.val and (epoch % settings.validate_every == 0 or epoch == settings.epochs):
                    entry |= _validate(average.net, task, device)
                progress.history.append(entry)
                bar.set_postfix({name: f"{value:.4g}" for name, value in entry.items() if name not in ("epoch", "lr")})
                if task.state:
                    save_state(task.state, task.identity, progress, net, average.net, optimizer)
    return average.net, progress.history


class _Stepper:
    """One optimizer step on one batch, in the precision that the device is good at."""

    def __init__(self, net: nn.Module, task: Task, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.net, self.optimizer, self.device = net, optimizer, device
        self.loss: Loss = loss_named(task.settings.loss, task.contract.codec)
        self.teacher, self.clip_norm = task.teacher, task.settings.clip_norm
        self.bf16 = task.settings.precision == "bf16" or (task.settings.precision == "auto" and _bf16_is_fast(device))

    def step(self, batch: Batch, rate: float) -> float:
        inputs = batch.inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            outputs = self.net(inputs)
        loss = self._total_loss(inputs, outputs, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)
        self.optimizer.step()
        return float(loss.detach())

    def _total_loss(self, inputs: Tensor, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        weight = batch.weight.to(self.device)
        said = tuple(output.float() for output in outputs)
        from_labels = self.loss.of(said, tuple(target.to(self.device) for target in batch.targets), weight)
        if self.teacher is None:
            return from_labels
        with torch.no_grad(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            taught = tuple(output.float() for output in self.teacher.net(inputs))
        from_teacher = self.loss.of(said, self.loss.taught(taught), torch.ones_like(weight))
        return (1 - self.teacher.weight) * from_labels + self.teacher.weight * from_teacher


def _validate(net: nn.Module, task: Task, device: torch.device) -> Entry:
    instances = tuple(instance for pool in task.val for instance in pool.instances)
    return {f"val_{name}": value for name, value in validate(net, instances, task.contract, device).items()}


def _bf16_is_fast(device: torch.device) -> bool:
    """GPUs, and CPUs with bf16 instructions: 89 against 68 images a second on HRNet-lite."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
