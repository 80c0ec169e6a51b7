"""The step that puts a network on the int8 grid with scales from training images."""

from __future__ import annotations

from edgekp.errors import RecipeError
from edgekp.recipe_steps import Quantize
from edgekp.stage import say
from optimize.calibration_set import calibration_inputs, choose_instances
from optimize.ptq import quantize_network
from optimize.step import Context, Result
from train.models.checkpoint import Checkpoint
from train.models.quantized import quant_convs


def quantize(parent: Checkpoint, settings: Quantize, context: Context) -> Result:
    """Put the network on the int8 grid with scales from training images.

    Raises:
        DataError: Fewer than 128 training instances to calibrate with.
        RecipeError: Fewer than 128 images asked for, an unknown layer, or the network is on the grid already.
    """
    if parent.spec.quantization:
        raise RecipeError("optimize: 'quantize' occurs twice; once is enough")
    instances = tuple(instance for pool in context.train for instance in pool.instances)
    chosen = choose_instances(instances, settings.images)
    found = quantize_network(parent, settings, calibration_inputs(chosen, parent.contract).to(context.device))
    say(f"optimize: int8 from {len(chosen)} training instances, {len(quant_convs(found.net))} convolutions; "
        f"in float: {', '.join(found.float_layers) or 'none'}")
    report = {"observer": settings.observer, "instances": len(chosen), "float_layers": found.float_layers,
              "thresholds": found.thresholds}
    return Result(found.net, found.spec, report, [])
