"""How the learning rate moves with the step."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi

from edgekp.recipe_train import Train
from train.averaging import first_averaged_epoch

DROP = 0.1  # at each milestone


def learning_rate(step: int, total: int, peak: float, warmup: int, milestones: Sequence[float] = ()) -> float:
    """Linear warm-up to ``peak`` (over at most a tenth of the run), then half a cosine down to zero.

    With ``milestones``, as fractions of the run, the rate falls to a tenth at each of them instead.
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    if milestones:
        return peak * DROP ** sum(step >= milestone * total for milestone in milestones)
    return 0.5 * peak * (1 + cos(pi * (step - warmup) / max(1, total - warmup)))


def rate_of(settings: Train, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a recipe; from where ``swa`` averages on, it stays what it was."""
    if settings.average == "swa":
        step = min(step, (first_averaged_epoch(settings) - 1) * steps_per_epoch)
    milestones = settings.milestones if settings.schedule == "step" else ()
    return learning_rate(step, settings.epochs * steps_per_epoch, settings.lr, settings.warmup_steps, milestones)
