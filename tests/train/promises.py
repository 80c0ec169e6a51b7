"""What every network must keep, whatever its parts are: measured here, asserted by the tests of the parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from deploy.export.checkpoint_to_onnx import to_onnx
from edgekp.recipe import Recipe
from edgekp.sample import Float
from tests import tiny
from train.losses import Tensors, mean
from train.models import build, spec_of
from train.schedule import learning_rate

STEPS = 200  # 80 are too few for what passes through a map of stride 32
LOOK_EVERY, GOOD = 20, 0.1  # steps, and the share of the mean pose's error at which a look is the last


@torch.no_grad()
def lively(part: nn.Module) -> nn.Module:
    """A backbone or neck in evaluation mode whose signal does not fade, and whose batch norms do something."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0),
                                      (module.weight, 0.6, 1.4), (module.bias, -0.3, 0.3)):
                tensor.uniform_(low, high)
    return part.eval()


def dead_parameters(net: nn.Module, side: int = 32) -> list[str]:
    """Names of the parameters that a batch gives no gradient."""
    for layer in net.get_submodule("head.output").modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.3)
    outputs = net.train()(torch.randn(4, 3, side, side))
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    return [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]


@torch.no_grad()
def onnx_error(of: Recipe, folder: Path) -> float:
    """Largest difference between a lively network and its ONNX file, as a share of its largest output."""
    net, _, contract = tiny.network(of)
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(net, contract, 17).SerializeToString())
    x = torch.randn(3, 3, *of.input.input_hw)
    found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": x.numpy()})
    expected = [output.numpy() for output in net(x)]
    return max(float(np.abs(one - other).max() / np.abs(other).max())
               for one, other in zip(found, expected, strict=True))


@torch.no_grad()
def translated_maps(net: nn.Module, rng: np.random.Generator, side: int, shift: int,
                    inner_px: tuple[int, int]) -> list[tuple[Float, Float]]:
    """By map of a network in evaluation mode: the same ``inner_px`` of a scene, seen before and after a translation.

    Args:
        shift: pixels, a multiple of the stride of every map.
        inner_px: first and last column and row of what is compared; borders are out of its reach.
    """
    scene = torch.from_numpy(rng.normal(size=(1, 3, side, side + shift)).astype(np.float32))
    pairs = []
    for before, after in zip(net(scene[..., :side]), net(scene[..., shift:]), strict=True):
        stride = side // before.shape[-1]
        first, last = (px // stride for px in inner_px)
        pairs.append((before[..., first:last, first + shift // stride:last + shift // stride].numpy(),
                      after[..., first:last, first:last].numpy()))
    return pairs


def learnt_by_heart(of: Recipe, loss: Callable[[Tensors, Tensors, Tensor], Tensor],
                    rng: np.random.Generator) -> tuple[float, float]:
    """Error after at most 200 steps on eight samples, as a share of what their mean pose has; the mean score.

    Inputs are noise, so that nothing but the sample itself says where its keypoints are. Who is good early need not
    go on.
    """
    side = of.input.input_hw[0]
    codec = of.build_codec()
    inputs = torch.from_numpy(rng.normal(size=(8, 3, side, side)).astype(np.float32))
    keypoints_xy = rng.uniform(0.2 * side, 0.8 * side, (8, 17, 2))
    target = codec.encode(keypoints_xy, np.full((8, 17), 2))
    goal = tuple(torch.from_numpy(target.arrays[name]) for name in codec.outputs)
    net = build(spec_of(of)).train()
    weight, optimizer = torch.from_numpy(target.weight), torch.optim.Adam(net.parameters())
    mean_pose_px = np.linalg.norm(keypoints_xy.mean(0) - keypoints_xy, axis=-1).mean()
    losses = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = learning_rate(step, STEPS, 1e-2, 10)
        said = net(inputs)
        stages = [said[i:i + len(goal)] for i in range(0, len(said), len(goal))]
        cost = mean(torch.stack([loss(stage, goal, weight) for stage in stages]).mean(0), weight.sum())
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        losses.append(float(cost.detach()))
        if step % LOOK_EVERY == LOOK_EVERY - 1:
            found_xy, scores = codec.decode({name: output.detach().numpy()
                                             for name, output in zip(codec.outputs, stages[-1], strict=True)})
            error = float(np.linalg.norm(found_xy - keypoints_xy, axis=-1).mean() / mean_pose_px)
            if error < GOOD and losses[-1] < losses[0] / 4:
                break
    assert losses[-1] < losses[0] / 2  # wing is steep near zero
    return error, float(scores.mean())
