"""How wrong a network's outputs for one task are: the labels' say and the teacher's. Knows no optimizer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgekp.contract import VISIBILITY
from train.losses import Tensors, loss_named, mean
from train.precision import Precision
from train.task import Task
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

    def __call__(self, outputs: Tensors, part: Part) -> Tensor:
        """() what the part adds to the loss of the batch: of places and, where the network says so, of visibility."""
        if not self.visibility_share:
            return self._of_places(outputs, part.targets, part)
        *places, logits = outputs
        *targets, visible = part.targets
        return (self._of_places(tuple(places), tuple(targets), part)
                + self.visibility_share * mean(visibility_loss(logits, visible, part.weight), part.total_weight))

    def _of_places(self, outputs: Tensors, targets: Tensors, part: Part) -> Tensor:
        """() of places, averaged over the stages of the head; a teacher also speaks of keypoints without a label."""
        said = tuple(output.float() for output in outputs)
        stages = [said[i:i + self.outputs] for i in range(0, len(said), self.outputs)]
        from_labels = self._of_stages(stages, targets, part.weight, part.total_weight)
        if self.teacher is None:
            return from_labels
        with torch.no_grad(), self.precision.autocast():
            taught = self.loss.taught(tuple(output.float() for output in self.teacher.net(part.inputs)[:self.outputs]))
        from_teacher = self._of_stages(stages, taught, torch.ones_like(part.weight), part.count)
        return (1 - self.teacher.weight) * from_labels + self.teacher.weight * from_teacher

    def _of_stages(self, stages: list[Tensors], targets: Tensors, weight: Tensor, total_weight: Tensor) -> Tensor:
        return torch.stack([mean(self.loss.of(stage, targets, weight), total_weight) for stage in stages]).mean()
