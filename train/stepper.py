"""One optimizer step on the batches of one or several tasks, each computed in parts that fit into memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError
from edgekp.recipe_train import Train
from train.dataset import Batch
from train.losses import Tensors
from train.objective import Part
from train.precision import Precision
from train.world import World


@dataclass(frozen=True)
class Lesson:
    """A batch of one task, and its share of the loss of the step.

    Attributes:
        batch: this process's share of the world's batch.
        objective: (outputs, part) to what the part adds to the loss of the world's batch.
    """

    batch: Batch
    objective: Callable[[Tensors, Part], Tensor]
    share: float = 1.0


class Outcome(NamedTuple):
    """What became of a step: the loss of the whole batch, and whether the weights moved (fp16 leaves steps out)."""

    loss: float
    moved: bool


class Stepper:
    """Turns lessons into better weights.

    A batch in ``train.accumulate`` parts gives the loss and the gradients of the whole batch: the weight of the whole
    normalises each part. Only batch norm sees a difference, because its statistics are those of a part.

    Raises:
        RecipeError: The batch cannot be divided evenly among processes and parts, or there is nothing to compile with.
    """

    def __init__(self, net: nn.Module, settings: Train, optimizer: torch.optim.Optimizer, precision: Precision,
                 device: torch.device, world: World) -> None:
        pieces = settings.accumulate * world.size
        if settings.batch % pieces or (pieces > 1 and settings.batch < 2 * pieces):
            raise RecipeError(f"train.batch: {settings.batch}, expected a multiple of {pieces} and at least "
                              f"{2 * pieces} (train.accumulate = {settings.accumulate}, processes: {world.size})")
        self.net, self.settings, self.optimizer, self.precision = net, settings, optimizer, precision
        self.device, self.world = device, world
        self.joined = world.joined(net)
        self.forward = _compiled(self.joined) if settings.compile else self.joined

    def step(self, lessons: Sequence[Lesson], rate: float) -> Outcome:
        """One step at learning rate ``rate`` on the sum of the lessons' losses, each times its share.

        The network is given the inputs of all lessons at once; of several lessons, it says a tuple of outputs for each.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        passes = list(zip(*(self._parts(lesson.batch) for lesson in lessons), strict=True))
        losses = []
        for number, parts in enumerate(passes, 1):
            with nullcontext() if number == len(passes) else self.world.unsynced(self.joined):
                losses.append(self._backward(parts, lessons))
        moved = self.precision.update(self.net, self.optimizer, self.settings.clip_norm)
        return Outcome(float(self.world.sum(torch.stack(losses).sum())), moved)

    def _parts(self, batch: Batch) -> Iterator[Part]:
        """What each forward pass sees of a batch, on the device."""
        count = self.settings.accumulate
        weight = batch.weight.to(self.device)
        total_weight = self.world.sum(weight.sum())
        number = torch.full_like(total_weight, weight.numel() * self.world.size)
        targets = zip(*(target.chunk(count) for target in batch.targets), strict=True)
        for inputs, part_targets, part_weight in zip(batch.inputs.chunk(count), targets, weight.chunk(count),
                                                     strict=True):
            on_device = inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            yield Part(on_device, tuple(target.to(self.device) for target in part_targets), part_weight, total_weight,
                       number)

    def _backward(self, parts: Sequence[Part], lessons: Sequence[Lesson]) -> Tensor:
        """Add the gradients of one forward pass, a part of each lesson; what it adds to the loss of the step."""
        with self.precision.autocast():
            said = self.forward(*(part.inputs for part in parts))
        outputs = said if len(parts) > 1 else (said,)
        loss = torch.stack([lesson.share * lesson.objective(of_one, part)
                            for lesson, of_one, part in zip(lessons, outputs, parts, strict=True)]).sum()
        self.precision.backward(loss * self.world.size)  # the world takes the mean of the gradients
        return loss.detach()


def _compiled(net: nn.Module) -> Callable[..., Any]:
    """``net`` through kernels made for it; its weights keep their names."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise RecipeError(f"train.compile: torch.compile needs a C++ compiler, '{compiler}' is not there; install it, "
                          "or leave train.compile out")
    return torch.compile(net)
