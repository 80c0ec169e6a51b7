"""The learning rate rises in a line and falls to nothing or in steps; while weights are averaged, it stays."""

from __future__ import annotations

import numpy as np
import pytest

from edgekp.errors import RecipeError
from edgekp.recipe_train import Train
from train.schedule import learning_rate, rate_of

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


def test_steps_fall_to_a_tenth_at_each_milestone_after_the_same_warm_up() -> None:
    settings = Train(epochs=10, lr=PEAK, schedule="step", milestones=(0.5, 0.8), warmup_steps=7)
    rates = [rate_of(settings, step, 10) for step in range(100)]
    assert rates[:7] == [learning_rate(step, 100, PEAK, 7) for step in range(7)]
    assert rates[7:50] == [PEAK] * 43
    np.testing.assert_allclose(rates[50:80], PEAK / 10, rtol=1e-12)
    np.testing.assert_allclose(rates[80:], PEAK / 100, rtol=1e-12)


def test_the_rate_stays_while_weights_are_averaged() -> None:
    falling = [rate_of(Train(epochs=8, lr=PEAK, average="none"), step, 5) for step in range(40)]
    constant = [rate_of(Train(epochs=8, lr=PEAK, average="swa", swa_share=0.25), step, 5) for step in range(40)]
    assert constant[:31] == falling[:31]
    assert constant[30:] == [falling[30]] * 10  # the last two of eight epochs
    assert falling[31] < falling[30]


@pytest.mark.parametrize("settings", [
    {"milestones": ()}, {"milestones": (0.5, 1.0)}, {"milestones": (0.0,)}, {"swa_share": 0.0}, {"swa_share": 1.5},
    {"ema_decay": 1.0}, {"patience": -1}, {"accumulate": 0}])
def test_a_setting_without_a_meaning_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=f"train.{next(iter(settings))}: .*expected"):
        Train(epochs=1, **settings)  # type: ignore[arg-type]
