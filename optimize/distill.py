"""Distillation: the current model learns from a teacher beside the labels (Hinton et al., 2015).

Knows what each technique takes of the teacher and where it fits; ``train.distillation`` knows the formulas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from edgekp.artifact import require_same_contract
from edgekp.codecs import Codec, Regression, SceneCodec, SimCC, codec_to_json
from edgekp.errors import RecipeError, unknown_name
from edgekp.recipe_steps import Distill, Qat
from optimize.step import Context, Result
from train.distillation import Pupil, with_features
from train.models.checkpoint import Checkpoint, load_checkpoint
from train.task import Teacher

FEATURES = ("backbone",)  # by default: the last map of what every network has


def any_codec(_: Codec | SceneCodec) -> bool:
    return True


@dataclass(frozen=True)
class Technique:
    """What is learnt of a teacher.

    Attributes:
        teaches: (network, its share of the loss) to the teacher of this kind, as yet without features.
        fits: whether it can be used with a codec.
        features: whether features are learnt, too.
    """

    teaches: Callable[..., Teacher]
    fits: Callable[[Codec | SceneCodec], bool] = any_codec
    features: bool = False


TECHNIQUES = {
    "output": Technique(Teacher),
    "feature": Technique(partial(Teacher, outputs=False), features=True),  # FitNets, Romero et al., ICLR 2015
    "dwpose": Technique(partial(Teacher, fades=True), features=True),  # Yang et al., ICCVW 2023, its first stage
    "coordinate": Technique(partial(Teacher, bounded=True), lambda codec: isinstance(codec, Regression)),
}


def teacher_folder(settings: Distill | Qat, baseline: Path) -> Path:
    return baseline if settings.teacher == "float" else Path(settings.teacher)


def distill(parent: Checkpoint, settings: Distill, context: Context) -> Result:
    """Train on with ``(1 - weight) * loss(labels) + weight * loss(teacher)``.

    The teacher also speaks where a label is missing.

    Raises:
        ArtifactError: The teacher's contract is another one.
        RecipeError: The network is already on the int8 grid, the technique does not fit the codec, or a feature is
            not there.
    """
    if parent.spec.quantization:
        raise RecipeError("optimize: 'distill' comes after 'quantize'; put quantize last")
    check_technique(parent, settings)
    taught_by = load_checkpoint(teacher_folder(settings, context.baseline))
    require_same_contract(parent.artifact, taught_by.artifact)
    torch.manual_seed(context.recipe.train.seed)  # of the adapters' first weights
    student, teacher = lesson_of(parent, taught_by, settings)
    teacher.net.to(context.device)
    net, history = context.fine_tune(parent, student, "distill", settings.epochs, settings.lr, teacher)
    report = {"teacher": settings.teacher, "teacher_parameters": taught_by.artifact.model["parameters"],
              "technique": settings.technique, "weight": settings.weight, "features": list(teacher.features)}
    return Result(net.net if isinstance(net, Pupil) else net, parent.spec, report, history)


def lesson_of(parent: Checkpoint, taught_by: Checkpoint, settings: Distill) -> tuple[nn.Module, Teacher]:
    """A copy of the student, with adapters where it learns features, and its teacher.

    Raises:
        RecipeError: A feature is not there, or is no map.
    """
    technique = TECHNIQUES[settings.technique]
    student = copy.deepcopy(parent.net).requires_grad_(True)
    names = (settings.features or FEATURES) if technique.features else ()
    teacher = technique.teaches(taught_by.net.eval().requires_grad_(False), settings.weight, features=names,
                                temperature=settings.temperature)
    if not names:
        return student, teacher
    widths = [feature_widths(checkpoint, names) for checkpoint in (parent, taught_by)]
    return Pupil(student, names, list(zip(*widths, strict=True))), teacher


def check_technique(parent: Checkpoint, settings: Distill) -> None:
    """Refuse a technique that does not fit the network, and a setting that would change nothing.

    Raises:
        RecipeError: Either.
    """
    codec, technique = parent.contract.codec, TECHNIQUES[settings.technique]
    if not technique.fits(codec):
        fitting = [name for name, other in TECHNIQUES.items() if other.fits(codec)]
        raise RecipeError(f"optimize.distill.technique: '{settings.technique}' does not fit codec "
                          f"'{codec_to_json(codec)['name']}'; those that do: {', '.join(fitting)}")
    if settings.features and not technique.features:
        learning = [name for name, other in TECHNIQUES.items() if other.features]
        raise RecipeError(f"optimize.distill.features: technique '{settings.technique}' learns none; leave them out, "
                          f"or choose {' or '.join(learning)}")
    if settings.temperature != 1 and (not isinstance(codec, SimCC) or settings.technique == "feature"):
        raise RecipeError(f"optimize.distill.temperature: {settings.temperature:g}, but only bins of codec 'simcc' "
                          "are softened, and technique 'feature' learns no outputs; leave it out")
    if settings.technique == "feature" and settings.weight == 1:
        raise RecipeError("optimize.distill.weight: 1 with technique 'feature' leaves the head without a loss; choose "
                          "a share below 1, or dwpose")
    if technique.features and parent.spec.transformer:
        raise RecipeError(f"optimize.distill.technique: '{settings.technique}' compares features place by place, and "
                          "each network's transformer puts the input upright in its own way; choose output or "
                          "coordinate")


@torch.no_grad()
def feature_widths(checkpoint: Checkpoint, names: tuple[str, ...]) -> list[int]:
    """Channels of what the named modules of a network say, as pruning has left them.

    Raises:
        RecipeError: There is no such module, or it says no map (N, C, h, w).
    """
    modules, folder = dict(checkpoint.net.named_modules()), checkpoint.artifact.folder
    used = [name for name, module in modules.items() if name and not isinstance(module, nn.ModuleList)]
    for name in names:
        if name not in used:
            shallow = [each for each in used if each.count(".") <= 2]  # a network has hundreds in all
            raise RecipeError(f"optimize.distill.features: {folder}: {unknown_name('module', name, shallow)}")
    _, maps = with_features(checkpoint.net, names, torch.zeros(1, 3, *checkpoint.spec.input_hw))
    for name, said in zip(names, maps, strict=True):
        if said.ndim != 4:
            raise RecipeError(f"optimize.distill.features: '{name}' of {folder} says no map (N, C, h, w), but "
                              f"{tuple(said.shape)}; name a module of the backbone")
    return [said.shape[1] for said in maps]
