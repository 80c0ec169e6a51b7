"""The step that puts a network on the int8 grid with scales from training images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgekp.errors import RecipeError
from edgekp.recipe_steps import Quantize
from edgekp.stage import say
from optimize.backends_compared import compare_backends
from optimize.calibration_set import calibration_inputs, choose_instances, refuse_leaks
from optimize.modelopt_backend import require_modelopt
from optimize.ptq import quantize_network
from optimize.repair import repair
from optimize.step import Context, Result
from train.history import Entry
from train.models.checkpoint import Checkpoint
from train.models.quantized import quant_convs


def quantize(parent: Checkpoint, settings: Quantize, context: Context) -> Result:
    """Put the network on the int8 grid with scales from training images.

    Raises:
        DataError: Fewer than 128 training instances to calibrate with, one of them from a validation image, or a
            network that computes NaN.
        RecipeError: Fewer than 128 images asked for, an unknown layer, or the network is on the grid already.
    """
    if parent.spec.quantization:
        raise RecipeError("optimize: 'quantize' occurs twice; once is enough")
    if settings.backend == "modelopt":
        require_modelopt("optimize.quantize.backend")
    chosen = choose_instances([instance for pool in context.train for instance in pool.instances], settings.images)
    refuse_leaks(chosen, [instance for pool in context.val for instance in pool.instances])
    inputs = calibration_inputs(chosen, parent.contract).to(context.device)
    told: dict[str, Any] = {}
    history: list[Entry] = []
    if settings.repair:
        repaired = repair(parent, settings, context, chosen, inputs)
        found, settings, history = repaired.found, repaired.settings, repaired.history
        told["repair"] = repaired.report
    else:
        found = quantize_network(parent, settings, inputs)
    say(f"optimize: int8 from {len(chosen)} training instances, {len(quant_convs(found.net))} convolutions; "
        f"in float: {', '.join(found.float_layers) or 'none'}")
    if settings.equalize:
        say(f"optimize: evened out the ranges between {len(found.equalized)} pairs of layers")
    if found.dead:
        say(f"optimize: zero on every calibration image: {', '.join(found.dead)}; train longer, or prune them")
    report = {"observer": settings.observer, "instances": len(chosen), "float_layers": found.float_layers,
              "thresholds": found.thresholds, "dead_layers": found.dead, "corrections": found.corrections,
              "equalized": [asdict(pair) for pair in found.equalized],
              "shift_px": compare_backends(parent, settings, context, chosen, inputs), **told}
    return Result(found.net, found.spec, report, history)
