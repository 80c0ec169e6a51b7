"""What a channel is worth: useless ones are found by whoever looks at weights or data, and the control is fair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from optimize import importance as module
from optimize.channel_groups import Dependencies, widths_at
from optimize.importance import flows_of, scores_of
from optimize.step import Context
from tests import tiny
from train.models.checkpoint import Checkpoint

POSE = tiny.recipe(model=tiny.Model("hrnet_lite", options={"width": 32, "branches": 2, "blocks": 1, "modules": 1}))
BODY = "backbone.stages.0.0.branches.0.0.body"
GROUP = f"{BODY}.0.0"
IDLE = list(range(0, 32, 2))
Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]


@pytest.fixture(autouse=True)
def two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAYLOR_BATCHES", 2)


def layers(checkpoint: Checkpoint) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
    """The convolution that leads the group, its batch norm, and the only layer that reads them."""
    first, norm, second = (checkpoint.net.get_submodule(f"{BODY}.{name}") for name in ("0.0", "0.1", "1.0"))
    assert isinstance(first, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(second, nn.Conv2d)
    nn.init.ones_(norm.bias)  # so that the ReLU behind it lets something of every channel through
    return first, norm, second


@pytest.mark.parametrize("importance", ["l1", "l2", "bn_scale", "taylor"])
def test_useless_channels_are_worth_least(parent: Parent, context: MakeContext, importance: str) -> None:
    checkpoint = parent(POSE)
    first, norm, second = layers(checkpoint)
    with torch.no_grad():
        for tensor in (first.weight, norm.weight, norm.bias):
            tensor[IDLE] *= 1e-3
        second.weight[:, IDLE] *= 1e-3
    scores = scores_of(checkpoint, importance, context(POSE))
    assert sorted(scores[GROUP].argsort()[:16].tolist()) == IDLE
    everyone = torch.cat(list(scores.values()))
    assert (scores[GROUP][IDLE] < everyone.quantile(0.3)).all(), "nor are they worth more than those of other groups"


def test_taylor_sees_that_large_weights_do_nothing(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(POSE)
    first, norm, second = layers(checkpoint)
    with torch.no_grad():
        first.weight[IDLE] *= 10
        second.weight[:, IDLE] *= 10
        norm.bias[IDLE] = -1e4  # the ReLU behind it never lets anything through
    taylor, l2 = (scores_of(checkpoint, name, context(POSE))[GROUP] for name in ("taylor", "l2"))
    assert taylor[IDLE].max() == 0
    assert taylor[1::2].min() > 0
    assert l2[IDLE].min() > l2[1::2].max()


def test_taylor_is_the_slope_of_the_loss_as_a_channel_fades(parent: Parent, context: MakeContext) -> None:
    """Against finite differences: every layer that reads the channel reads it fainter."""
    checkpoint, given = parent(POSE), context(POSE)
    lesson = module._lessons(checkpoint, given)[0]
    dependencies = Dependencies(checkpoint.net, POSE.input.input_hw)
    group = dependencies.by_name["backbone.stages.0.0.branches.1.0.body.1.0"]  # read by several layers
    flows = {dependencies.net.get_submodule(name): flow[:1] for name, flow in flows_of(checkpoint, given).items()}
    found = module._taylor(group, flows)
    readers = [item.dep.target.module for item in group if item.dep.handler in module.READS]
    assert len(readers) > 1
    assert found is not None
    step = 0.01  # the loss is a float32: a smaller step drowns in its rounding
    for channel in found.argsort()[-3:].tolist():
        losses = []
        for factor in (1 + step, (1 - step) / (1 + step), 1 / (1 - step)):
            with torch.no_grad():
                for reader in readers:
                    reader.weight[:, channel] *= factor
                losses.append(float(module._loss(dependencies.net, lesson, torch.device("cpu"))))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert abs(slope) == pytest.approx(float(found[channel]), rel=0.02)


def test_the_control_takes_the_same_share_of_small_and_large_groups(parent: Parent, context: MakeContext) -> None:
    scores = scores_of(parent(POSE), "random", context(POSE))
    sizes = {name: len(worth) for name, worth in scores.items()}
    assert len(set(sizes.values())) > 1
    for name, width in widths_at(scores, 0.3, 1).items():
        spread = (0.3 * 0.7 * sizes[name]) ** 0.5
        assert abs(width - 0.7 * sizes[name]) < 4 * spread, name
    again = scores_of(parent(POSE), "random", context(POSE))
    assert all(torch.equal(scores[name], again[name]) for name in scores)
    assert not torch.equal(*(scores[name][:32] for name in list(scores)[:2])), "each group draws its own lot"
