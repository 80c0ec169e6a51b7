"""The training loop, used by training, recovery after pruning and distillation alike."""

from __future__ import annotations

import math

import torch
from torch import nn
from tqdm import tqdm

from edgekp.errors import TrainingError
from train.dataset import StepSampler, training_batches
from train.resume import Entry, Progress, load_state, save_state
from train.schedule import Average, learning_rate
from train.stepper import Stepper
from train.task import Task
from train.validate import validate
from train.world import World


def fit(net: nn.Module, task: Task, device: torch.device,
        world: World | None = None) -> tuple[nn.Module, list[Entry]]:
    """Train ``net``; the averaged network in evaluation mode, and the history, one entry per epoch.

    Raises:
        TrainingError: The loss is no longer a finite number.
    """
    settings, world = task.settings, world or World()
    net = net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = Average(net, settings.ema_decay)
    optimizer = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=settings.weight_decay)
    progress = Progress(0, [])
    if task.resume and task.state:
        progress = load_state(task.state, task.identity, net, average.net, optimizer)
    sampler = StepSampler(task.train, settings.batch, settings.epochs, settings.seed, progress.step, world)
    batches = training_batches(task.train, task.contract, task.augment, sampler, settings.workers)
    total = settings.epochs * sampler.steps_per_epoch
    stepper = Stepper(net, task, optimizer, device, world)
    loss_sum = 0.0
    with tqdm(batches, desc=task.label, initial=progress.step, total=total, unit="step", mininterval=1.0,
              disable=not world.is_first) as bar:
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
                    entry |= _validate(average.net, task, device, world)
                progress.history.append(entry)
                bar.set_postfix({name: f"{value:.4g}" for name, value in entry.items() if name not in ("epoch", "lr")})
                if task.state and world.is_first:
                    save_state(task.state, task.identity, progress, net, average.net, optimizer)
    return average.net, progress.history


def _validate(net: nn.Module, task: Task, device: torch.device, world: World) -> Entry:
    instances = tuple(instance for pool in task.val for instance in pool.instances)
    return {f"val_{name}": value for name, value in validate(net, instances, task.contract, device, world).items()}
