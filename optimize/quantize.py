"""INT8 post-training quantization: symmetric, weights per output channel, activations per tensor, head in float.

One set of scales is found here, in torch; every target spells the same grid in its own way (deploy/export/qdq.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgekp.contract import AnyContract, SceneContract
from edgekp.errors import DataError, RecipeError
from edgekp.preprocess import frame_xywh, read_image
from edgekp.recipe_steps import Quantize
from edgekp.sample import Instance
from edgekp.stage import say
from optimize.calibration import SMALLEST, calibrate
from optimize.step import Context, Result
from train.dataset import KeypointDataset
from train.models import quantized
from train.models.checkpoint import Checkpoint
from train.models.quantized import INT8_MAX, insert_fake_quantizers, quant_convs

FEWEST_IMAGES = 128
SEED = 0


def quantize(parent: Checkpoint, settings: Quantize, context: Context) -> Result:
    """Put the network on the int8 grid with scales from training images.

    Raises:
        DataError: Fewer than 128 training instances to calibrate with.
        RecipeError: Fewer than 128 images asked for, an unknown layer, or the network is on the grid already.
    """
    if parent.spec.quantization:
        raise RecipeError("optimize: 'quantize' occurs twice; once is enough")
    spec = quantized(parent.spec, settings.keep_float)
    assert spec.quantization is not None
    net = insert_fake_quantizers(parent.net.cpu(), spec.quantization)
    set_weight_scales(net)
    instances = tuple(instance for pool in context.train for instance in pool.instances)
    chosen = choose_instances(instances, settings.images)
    inputs = _inputs(chosen, parent.contract).to(context.device)
    thresholds = calibrate(net.to(context.device), inputs, settings.observer)
    kept = [name for name, module in net.named_modules()
            if isinstance(module, nn.Conv2d) and spec.quantization.keeps(name)]
    say(f"optimize: int8 from {len(chosen)} training instances, {len(quant_convs(net))} convolutions; "
        f"in float: {', '.join(kept) or 'none'}")
    report = {"observer": settings.observer, "instances": len(chosen), "float_layers": kept, "thresholds": thresholds}
    return Result(net, spec, report, [])


@torch.no_grad()
def set_weight_scales(net: nn.Module) -> None:
    """The largest magnitude of each output channel becomes 127."""
    for conv in quant_convs(net).values():
        largest = conv.weight.abs().amax(dim=(1, 2, 3)).clamp_min(SMALLEST)
        conv.weight_scale.copy_(largest / INT8_MAX)


def choose_instances(instances: Sequence[Instance], count: int) -> list[Instance]:
    """Instances spread evenly over size and number of visible keypoints, rather than the first ones."""
    if count < FEWEST_IMAGES:
        raise RecipeError(f"optimize.quantize.images: {count}, expected at least {FEWEST_IMAGES}")
    if len(instances) < FEWEST_IMAGES:
        raise DataError(f"{len(instances)} training instances, calibration needs at least {FEWEST_IMAGES}")
    shuffled = np.random.default_rng(SEED).permutation(len(instances))
    traits = [(int((instances[i].visibility == 2).sum()), instances[i].area_px2) for i in shuffled]
    ranked = shuffled[sorted(range(len(traits)), key=traits.__getitem__)]
    return [instances[i] for i in ranked[np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)]]


def _inputs(instances: list[Instance], contract: AnyContract) -> Tensor:
    """(N, 3, h, w): what the device will see, without augmentation: the crops, or the images that they are from."""
    if isinstance(contract, SceneContract):
        images = [read_image(path) for path in dict.fromkeys(instance.image.path for instance in instances)]
        return torch.from_numpy(np.stack([contract.prepare(image, frame_xywh(image))[0] for image in images]))
    dataset = KeypointDataset(tuple(instances), contract, None, SEED)
    return torch.from_numpy(np.stack([dataset.sample(0, i)[0] for i in range(len(instances))]))
