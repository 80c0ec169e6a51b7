"""The learning rate rises in a line, falls to nothing, and the average follows weights and statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from train.schedule import Average, learning_rate

PEAK = 2e-3


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    rates = [learning_rate(step, 1000, PEAK, 50) for step in range(51)]
    np.testing.assert_allclose(np.diff(rates[:50]), PEAK / 50, rtol=1e-9)
    assert rates[49] == pytest.approx(PEAK)
    assert rates[50] == pytest.approx(PEAK)
    assert rates[0] > 0


def test_warm_up_takes_at_most_a_tenth_of_a_short_run() -> None:
    rates = [learning_rate(step, 40, PEAK, 200) for step in range(40)]
    assert int(np.argmax(rates)) == 3
    assert rates[3] == pytest.approx(PEAK)


def test_the_rate_falls_after_the_warm_up_and_ends_near_zero() -> None:
    rates = [learning_rate(step, 1000, PEAK, 50) for step in range(1000)]
    assert (np.diff(rates[50:]) < 0).all()
    assert rates[525] == pytest.approx(PEAK / 2)  # half way down the cosine
    assert 0 < rates[-1] < 1e-5 * PEAK  # one step before zero: (pi / 950 / 2)**2 of the peak


def test_a_run_of_one_step_has_a_rate() -> None:
    assert learning_rate(0, 1, PEAK, 200) == PEAK


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
        average.update(net, step)
    assert (1 + 4) / (10 + 4) < 0.6 < (1 + 11) / (10 + 11) + 0.05  # both the young and the settled rule were met
    for name, value in average.net.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=0, atol=1e-6)


def test_batch_norm_statistics_are_averaged_and_counters_copied() -> None:
    net = nn.BatchNorm2d(2)
    average = Average(net, decay=0.9)
    net(torch.randn(8, 2, 4, 4) * 3 + 5)
    average.update(net, 0)
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
