"""Averages of weights: each equals its formula, and follows batch norm's statistics the way it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgekp.recipe_train import Train
from train.averaging import Average, average_of, first_averaged_epoch, measure_statistics
from train.world import World

SETTINGS = Train(epochs=8)


def shaken(net: nn.Module) -> dict[str, np.ndarray]:
    """The weights of ``net`` after a random step."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    return {name: value.numpy().astype(np.float64) for name, value in net.state_dict().items()}


def test_the_average_equals_the_recursion_in_numpy() -> None:
    net = nn.Linear(3, 2)
    average = Average(net, decay=0.6)
    expected = {name: value.numpy().astype(np.float64) for name, value in net.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        decay = min(0.6, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * net.state_dict()[name].numpy()
                    for name, value in expected.items()}
        average.after_step(net, step)
    assert (1 + 4) / (10 + 4) < 0.6 < (1 + 11) / (10 + 11) + 0.05  # both the young and the settled rule were met
    for name, value in average.net.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=0, atol=1e-6)


def test_batch_norm_statistics_are_averaged_and_counters_copied() -> None:
    net = nn.BatchNorm2d(2)
    average = Average(net, decay=0.9)
    net(torch.randn(8, 2, 4, 4) * 3 + 5)
    average.after_step(net, 0)
    state, news = average.net.state_dict(), net.state_dict()
    for name, start in (("running_mean", 0.0), ("running_var", 1.0)):
        expected = 0.1 * start + 0.9 * news[name]  # the youngest decay is 1 / 10
        torch.testing.assert_close(state[name], expected)
        assert not torch.equal(state[name], news[name])
    assert int(state["num_batches_tracked"]) == 1


def test_the_average_is_frozen_and_does_not_share_weights() -> None:
    net = nn.Linear(2, 2)
    average = Average(net, 0.9)
    before = average.net.weight.clone()
    with torch.no_grad():
        net.weight.add_(1.0)
    assert torch.equal(average.net.weight, before)
    assert not average.net.weight.requires_grad
    assert not average.net.training


def test_without_an_average_the_last_weights_come_back() -> None:
    net = nn.Linear(3, 2)
    average = average_of(net, replace(SETTINGS, average="none"))
    for step in range(3):
        shaken(net)
        average.after_step(net, step)
        average.after_epoch(net, step + 1)
        assert torch.equal(average.net.weight, net.weight)


def test_stochastic_weight_averaging_is_the_mean_of_the_last_epochs() -> None:
    net = nn.Linear(3, 2)
    average = average_of(net, replace(SETTINGS, average="swa", swa_share=0.5))
    seen = []
    for epoch in range(1, 9):
        seen.append(shaken(net))
        average.after_step(net, epoch)
        average.after_epoch(net, epoch)
        expected = np.mean([weights["weight"] for weights in seen[4:] or seen[-1:]], axis=0)
        np.testing.assert_allclose(average.net.weight.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("epochs", "share", "first"), [(8, 0.25, 7), (8, 1.0, 1), (1, 0.25, 1), (3, 0.01, 3)])
def test_at_least_one_epoch_is_averaged(epochs: int, share: float, first: int) -> None:
    assert first_averaged_epoch(Train(epochs=epochs, average="swa", swa_share=share)) == first


def test_measured_statistics_are_the_mean_over_the_batches() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()
    net[1].running_mean.fill_(100.0)
    batches = [torch.randn(4, 3, 5, 5) * scale for scale in (1, 2, 3)]
    with torch.no_grad():
        maps = [net[0](batch) for batch in batches]
    measure_statistics(net, [(batch,) for batch in batches], World())
    torch.testing.assert_close(net[1].running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in maps]).mean(0))
    torch.testing.assert_close(net[1].running_var, torch.stack([batch.var((0, 2, 3)) for batch in maps]).mean(0))
    assert net[1].momentum == 0.1
    assert not any(module.training for module in net.modules())
