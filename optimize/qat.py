"""Quantization-aware training: the rounding stays in the forward pass while the network trains on.

Batch norm is folded into the convolutions since the network is on the grid, so what trains is what will run.
Gradients pass through the rounding as if it were not there, and stop at values that are clipped.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from edgekp.artifact import require_same_contract
from edgekp.errors import RecipeError
from edgekp.recipe_steps import Qat
from edgekp.stage import say
from optimize.distill import teacher_folder
from optimize.modelopt_backend import install, read_back, require_modelopt
from optimize.ptq import set_weight_scales
from optimize.step import Context, Result
from train.dataset import Batch, StepSampler
from train.loader import training_batches
from train.models.checkpoint import Checkpoint, load_checkpoint
from train.models.quantized import quant_convs
from train.objective import Objective, Part
from train.precision import precision_for
from train.task import Task, Teacher

JUDGED_BATCHES = 16  # of training images as they are, to compare the network before and after


def qat(parent: Checkpoint, settings: Qat, context: Context) -> Result:
    """Train the weights on the grid on; scales of activations stay, those of weights follow the weights.

    It always trains in fp32, whatever ``train.precision`` says: bf16 has 8 bits itself, so that values would be
    rounded twice. Where the loss on training images is no lower than before, the parent is the result.

    Raises:
        ArtifactError: The teacher's contract is another one.
        RecipeError: The network is not on the int8 grid yet, or ModelOpt is asked for and not installed.
    """
    if not parent.spec.quantization:
        raise RecipeError("optimize: 'qat' comes before 'quantize'; it trains a quantized network on")
    if settings.backend == "modelopt":
        require_modelopt("optimize.qat.backend")
    context = _in_fp32(context)
    teacher = _teacher(parent, settings, context)
    before = training_loss(parent.net, parent, context, teacher)
    trained, history = _train(parent, settings, context, teacher)
    after = training_loss(trained, parent, context, teacher)
    say(f"optimize: loss on training images {before:.4g} before, {after:.4g} after training with rounding"
        + ("" if after < before else "; the network stays as it was"))
    report: dict[str, Any] = {"teacher": settings.teacher, "weight": settings.weight, "backend": settings.backend,
                              "loss_before": before, "loss_after": after, "improved": after < before}
    return Result(trained if after < before else parent.net, parent.spec, report, history)


def _train(parent: Checkpoint, settings: Qat, context: Context,
           teacher: Teacher | None) -> tuple[nn.Module, list[dict[str, float]]]:
    """The network after training, on our grid, and the history.

    The average of weights has other maxima than the average of maxima, so its scales are taken from it in the end.
    """
    learner, result = (copy.deepcopy(parent.net).requires_grad_(True) for _ in range(2))
    if settings.backend == "modelopt":
        install(learner)
    else:
        follow_weights(learner)
    trained, history = context.fine_tune(parent, learner, "qat", settings.epochs, settings.lr, teacher)
    if settings.backend == "modelopt":
        read_back(trained, result)
    else:
        result.load_state_dict(trained.state_dict())
    set_weight_scales(result)
    return result.to(context.device).eval(), history


def follow_weights(net: nn.Module) -> None:
    """Before every call of a convolution, set the scales of its weights from the weights; copies of ``net`` do so too.

    Scales that stayed would clip whatever grows.
    """
    for conv in quant_convs(net).values():
        conv.register_forward_pre_hook(lambda mine, _: set_weight_scales(mine))


@torch.no_grad()
def training_loss(net: nn.Module, parent: Checkpoint, context: Context, teacher: Teacher | None) -> float:
    """What a network loses on the first training batches, without augmentation; a teacher has its say."""
    settings = context.recipe.train
    task = Task("qat", parent.contract, context.train, [], settings, context.recipe.augment, teacher)
    objective = Objective(task, precision_for(settings, context.device))
    net = net.to(context.device).eval()
    losses = [float(objective(net(part.inputs), part)) for part in _parts(task, context.device)]
    return sum(losses) / len(losses)


def _parts(task: Task, device: torch.device) -> Iterator[Part]:
    sampler = StepSampler(task.train, task.settings.batch, 1, task.settings.seed)
    batches: Iterator[Batch] = training_batches(task.train, task.contract, None, sampler, 0,
                                                task.settings.keypoint_weights)
    for batch in islice(batches, JUDGED_BATCHES):
        weight = batch.weight.to(device)
        yield Part(batch.inputs.to(device), tuple(target.to(device) for target in batch.targets), weight, weight.sum(),
                   torch.tensor(float(weight.numel()), device=device))


def _teacher(parent: Checkpoint, settings: Qat, context: Context) -> Teacher | None:
    if not settings.teacher:
        return None
    taught_by = load_checkpoint(teacher_folder(settings, context.baseline))
    require_same_contract(parent.artifact, taught_by.artifact)
    return Teacher(taught_by.net.to(context.device).requires_grad_(False), settings.weight)


def _in_fp32(context: Context) -> Context:
    return replace(context, recipe=replace(context.recipe, train=replace(context.recipe.train, precision="fp32")))
