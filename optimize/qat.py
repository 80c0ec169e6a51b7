"""Quantization-aware training: the rounding stays in the forward pass while the network trains on."""

from __future__ import annotations

import copy

from edgekp.artifact import require_same_contract
from edgekp.errors import RecipeError
from edgekp.recipe_steps import Qat
from optimize.distill import teacher_folder
from optimize.step import Context, Result
from train.models.checkpoint import Checkpoint, load_checkpoint
from train.task import Teacher


def qat(parent: Checkpoint, settings: Qat, context: Context) -> Result:
    """Train the weights on the grid on; scales of activations stay, those of weights follow.

    Raises:
        ArtifactError: The teacher's contract is another one.
        RecipeError: The network is not on the int8 grid yet.
    """
    if not parent.spec.quantization:
        raise RecipeError("optimize: 'qat' comes before 'quantize'; it trains a quantized network on")
    teacher = None
    if settings.teacher:
        taught_by = load_checkpoint(teacher_folder(settings, context.baseline))
        require_same_contract(parent.artifact, taught_by.artifact)
        teacher = Teacher(taught_by.net.to(context.device).requires_grad_(False), settings.weight)
    net, history = context.fine_tune(parent, copy.deepcopy(parent.net).requires_grad_(True), "qat", settings.epochs,
                                     settings.lr, teacher)
    return Result(net, parent.spec, {"teacher": settings.teacher, "weight": settings.weight}, history)
