"""How wrong a network's outputs for one task are: the labels' say and the teacher's. Knows no optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from edgekp.codecs import SimCC
from edgekp.contract import VISIBILITY
from train.distillation import features_apart, softened, trusted, with_features
from train.losses import SIMCC_SHARPNESS, Tensors, loss_named, mean
from train.precision import Precision
from train.task import Task, Teacher
from train.visibility import visibility_loss


@dataclass(frozen=True)
class Part:
    """What one forward pass works on, on the device: a batch, or a part of it.

    Attributes:
        weight: (N, K) of each keypoint.
        total_weight: () of the whole batch, in all its parts and processes.
        count: () how many keypoints the whole batch has, whether they weigh something or not.
    """

    inputs: Tensor
    targets: Tensors
    weight: Tensor
    total_weight: Tensor
    count: Tensor


class Objective:
    """The loss of a task: its labels', mixed with its teacher's."""

    def __init__(self, task: Task, precision: Precision) -> None:
        self.loss = loss_named(task.settings.loss, task.contract)
        self.outputs = len(task.contract.codec.outputs)
        self.visibility_share = task.settings.visibility_share if VISIBILITY in task.contract.outputs else 0.0
        self.teacher, self.precision = task.teacher, precision
        self.features = len(task.teacher.features) if task.teacher else 0
        self.of_taught = self.loss.of
        if task.teacher and task.teacher.temperature != 1:
            codec = task.contract.codec
            assert isinstance(codec, SimCC), "only bins have a temperature"
            self.of_taught = partial(softened, temperature=task.teacher.temperature,
                                     sharpness=SIMCC_SHARPNESS if codec.smoothing == "gaussian" else 1.0)

    def at(self, done: float) -> Callable[[Tensors, Part], Tensor]:
        """The loss of a step before which that part of the run is done: 0 is the first, 1 the last one."""
        return partial(self, done=done)

    def __call__(self, outputs: Tensors, part: Part, done: float = 0.0) -> Tensor:
        """() what the part adds to the loss of the batch: of places and, where the network says so, of visibility."""
        said, features = outputs[:len(outputs) - self.features], outputs[len(outputs) - self.features:]
        if not self.visibility_share:
            return self._of_places(said, features, part.targets, part, done)
        *places, logits = said
        *targets, visible = part.targets
        return (self._of_places(tuple(places), features, tuple(targets), part, done)
                + self.visibility_share * mean(visibility_loss(logits, visible, part.weight), part.total_weight))

    def _of_places(self, outputs: Tensors, features: Tensors, targets: Tensors, part: Part, done: float) -> Tensor:
        """() of places, averaged over the stages of the head; a teacher also speaks of keypoints without a label."""
        said = tuple(output.float() for output in outputs)
        stages = [said[i:i + self.outputs] for i in range(0, len(said), self.outputs)]
        if self.teacher is None:
            return mean(self._of_stages(self.loss.of, stages, targets, part.weight), part.total_weight)
        taught, its_features = self._asked(self.teacher, part.inputs)
        share = torch.full_like(part.weight, self.teacher.share(done))
        if self.teacher.bounded:
            share = share * self._trusted(stages[-1], taught, targets, part.weight)
        loss = mean(self._of_stages(self.loss.of, stages, targets, part.weight * (1 - share)), part.total_weight)
        if self.teacher.outputs:
            loss = loss + mean(self._of_stages(self.of_taught, stages, taught, share), part.count)
        if self.features:
            loss = loss + mean(self._of_features(features, its_features, taught, share), part.count)
        return loss

    @torch.no_grad()
    def _asked(self, teacher: Teacher, inputs: Tensor) -> tuple[Tensors, Tensors]:
        """What the teacher says: its outputs as targets, and its features."""
        with self.precision.autocast():
            outputs, features = with_features(teacher.net, teacher.features, inputs)
        return self.loss.taught(tuple(output.float() for output in outputs[:self.outputs])), features

    @torch.no_grad()
    def _trusted(self, said: Tensors, taught: Tensors, targets: Tensors, weight: Tensor) -> Tensor:
        everywhere = torch.ones_like(weight)
        return trusted(self.loss.of(said, targets, everywhere), self.loss.of(taught, targets, everywhere), weight)

    def _of_features(self, mine: Tensors, its: Tensors, taught: Tensors, share: Tensor) -> Tensor:
        """(N, K) in the unit of the loss: silent features cost what outputs of 0 would cost against the teacher's."""
        silence = self.of_taught(tuple(torch.zeros_like(output) for output in taught), taught, share)
        return silence * features_apart(mine, its).view(-1, *[1] * (silence.ndim - 1))

    def _of_stages(self, of: Callable[..., Tensor], stages: list[Tensors], targets: Tensors, weight: Tensor) -> Tensor:
        return torch.stack([of(stage, targets, weight) for stage in stages]).mean(0)
