"""Distillation: the current model learns a teacher's outputs beside the labels (Hinton et al., 2015; heatmap KD)."""

from __future__ import annotations

import copy
from pathlib import Path

from edgekp.artifact import require_same_contract
from edgekp.errors import RecipeError
from edgekp.recipe_steps import Distill, Qat
from optimize.step import Context, Result
from train.models.checkpoint import Checkpoint, load_checkpoint
from train.task import Teacher


def teacher_folder(settings: Distill | Qat, baseline: Path) -> Path:
    return baseline if settings.teacher == "float" else Path(settings.teacher)


def distill(parent: Checkpoint, settings: Distill, context: Context) -> Result:
    """Train on with ``(1 - weight) * loss(labels) + weight * loss(teacher)``.

    The teacher also speaks where a label is missing.

    Raises:
        ArtifactError: The teacher's contract is another one.
        RecipeError: The network is already on the int8 grid.
    """
    if parent.spec.quantization:
        raise RecipeError("optimize: 'distill' comes after 'quantize'; put quantize last")
    taught_by = load_checkpoint(teacher_folder(settings, context.baseline))
    require_same_contract(parent.artifact, taught_by.artifact)
    teacher = Teacher(taught_by.net.to(context.device).requires_grad_(False), settings.weight)
    net, history = context.fine_tune(parent, copy.deepcopy(parent.net).requires_grad_(True), "distill",
                                     settings.epochs, settings.lr, teacher)
    report = {"teacher": settings.teacher, "teacher_parameters": taught_by.artifact.model["parameters"],
              "weight": settings.weight}
    return Result(net, parent.spec, report, history)
