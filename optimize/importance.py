"""What each channel of a network is worth, by group. Knows neither goal nor target.

``l1``, ``l2`` and ``bn_scale`` look at weights, as torch-pruning does it, relative to the mean of each group;
``taylor`` looks at the loss on training batches. ``random`` is the control that the others have to beat.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice

import torch
import torch_pruning as tp
from torch import Tensor, nn

from optimize.channel_groups import Dependencies, Scores
from optimize.step import Context
from train.lessons import Lessons
from train.models.checkpoint import Checkpoint
from train.objective import Part
from train.precision import Precision
from train.stepper import Lesson
from train.task import Task
from train.world import World

Score = Callable[[tp.Group], Tensor | None]  # (C,) of a group, or None where it has nothing to go by
MAGNITUDES: dict[str, Callable[[], Score]] = {
    "l1": lambda: tp.importance.MagnitudeImportance(p=1),
    "l2": lambda: tp.importance.MagnitudeImportance(p=2),
    "bn_scale": tp.importance.BNScaleImportance,
}
READS = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)  # how a group names the layers that read it
TAYLOR_BATCHES = 16
SEED = 0


def scores_of(checkpoint: Checkpoint, importance: str, context: Context) -> Scores:
    """The worth of every channel of every group; groups that the importance can say nothing of are left out."""
    dependencies = Dependencies(checkpoint.net, checkpoint.spec.input_hw)
    score = _scorer(importance, dependencies, checkpoint, context)
    found = {name: score(group) for name, group in dependencies.by_name.items()}
    return {name: worth.detach().nan_to_num(0.0) for name, worth in found.items() if worth is not None}


def _scorer(importance: str, dependencies: Dependencies, checkpoint: Checkpoint, context: Context) -> Score:
    if importance == "random":
        generator = torch.Generator().manual_seed(SEED)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)  # a fair lot, whatever a group's size
    if importance == "taylor":
        flows = {dependencies.net.get_submodule(name): flow for name, flow in flows_of(checkpoint, context).items()}
        return lambda group: _taylor(group, flows)
    return MAGNITUDES[importance]()


def _taylor(group: tp.Group, flows: dict[nn.Module, Tensor]) -> Tensor | None:
    """Root mean square over batches of how far the loss moves without a channel, to first order.

    That a channel leaves is that every layer which reads it multiplies it by 0: the first-order term is the sum of
    weight times gradient over those weights (Molchanov et al., CVPR 2019, with the readers as the gate).
    """
    readers = [(flows[item.dep.target.module][:, item.idxs], torch.tensor(item.root_idxs)) for item in group
               if item.dep.target.module in flows and item.dep.handler in READS]
    if not readers:
        return None
    moved = torch.zeros(len(readers[0][0]), len(group[0].idxs))
    for flow, channels in readers:
        moved.index_add_(1, channels, flow)
    return moved.square().mean(0).sqrt()


def flows_of(checkpoint: Checkpoint, context: Context) -> dict[str, Tensor]:
    """Weight times gradient of the training loss, summed for each channel that a layer reads.

    Returns:
        (B, C_in) for B training batches, by the name of the layer; depthwise layers read nothing across channels.
    """
    net = copy.deepcopy(checkpoint.net).to(context.device).eval().requires_grad_(True)
    readers = {name: module for name, module in net.named_modules()
               if isinstance(module, nn.Linear)
               or (isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.groups == 1)}
    found: dict[str, list[Tensor]] = {name: [] for name in readers}
    for lesson in _lessons(checkpoint, context):
        net.zero_grad(set_to_none=True)
        torch.autograd.backward(_loss(net, lesson, context.device))
        for name, module in readers.items():
            found[name].append(_flow(module))
    return {name: torch.stack(flows) for name, flows in found.items()}


def _flow(layer: nn.Module) -> Tensor:
    weight = layer.get_parameter("weight")
    if weight.grad is None:  # a branch that says no part of the loss
        return torch.zeros(weight.shape[0 if isinstance(layer, nn.ConvTranspose2d) else 1])
    reads = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
    return (weight.detach() * weight.grad).transpose(0, reads).flatten(1).sum(1).cpu()


def _lessons(checkpoint: Checkpoint, context: Context) -> list[Lesson]:
    """The first batches of the recipe's own training, with its augmentation and loss."""
    settings = replace(context.recipe.train, epochs=TAYLOR_BATCHES, workers=0)  # an epoch has at least one batch
    task = Task("importance", checkpoint.contract, context.train, [], settings, context.recipe.augment)
    lessons = Lessons(task, Precision(None, context.device.type), context.device, World())
    with closing(lessons.from_step(0)) as steps:
        return [lesson for step in islice(steps, TAYLOR_BATCHES) for lesson in step]


def _loss(net: nn.Module, lesson: Lesson, device: torch.device) -> Tensor:
    batch, weight = lesson.batch, lesson.batch.weight.to(device)
    part = Part(batch.inputs.to(device), tuple(target.to(device) for target in batch.targets), weight, weight.sum(),
                torch.full_like(weight.sum(), weight.numel()))
    return lesson.objective(net(part.inputs), part)
