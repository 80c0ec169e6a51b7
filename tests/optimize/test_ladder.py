"""The ladder: the cheapest repair that the gate accepts, what helped is kept, and the fewest layers are in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgekp.recipe_steps import Quantize
from eval.verdict import Outcome
from optimize.ladder import MOST_FLOAT, RUNGS, Attempt, Climb, climb, left_in_float

START = Quantize("quantize", observer="minmax", repair=True)
LAYERS = [f"layer{number}" for number in range(12)]
Loss = Callable[[Quantize], float]


class Toy:
    """A workshop whose gate knows what every setting loses, in budgets."""

    def __init__(self, loss: Loss, training: float = 0.0, no_int16: str = "no kernels") -> None:
        self.loss, self.training, self.no_int16 = loss, training, no_int16
        self.attempts: list[Quantize] = []

    def attempt(self, settings: Quantize) -> Attempt:
        self.attempts.append(settings)
        return self.judged(settings, self.loss(settings))

    def train_on(self, attempt: Attempt) -> Attempt:
        return replace(self.judged(attempt.settings, attempt.used - self.training), trained=True)

    def worst_layers(self, settings: Quantize) -> list[str]:
        return [layer for layer in LAYERS if layer not in settings.keep_float]

    def worst_activations(self, settings: Quantize) -> list[str]:
        return LAYERS

    @staticmethod
    def judged(settings: Quantize, used: float) -> Attempt:
        outcome: Outcome = "pass" if used < 1 else "undecided" if used < 2 else "fail"
        return Attempt(f"{used}", settings, outcome, used, {"val": {"reason": f"{used} budgets"}}, 100)


def climbed(loss: Loss, **options: Any) -> tuple[Climb, Toy]:
    shop = Toy(loss, **options)
    way = Climb(shop)
    climb(way, START)
    return way, shop


def kept(way: Climb) -> list[str]:
    return [step.rung for step in way.steps if step.kept]


def test_a_network_that_passes_at_once_is_not_repaired() -> None:
    way, shop = climbed(lambda _: 0.5)
    assert [step.rung for step in way.steps] == ["recipe"]
    assert shop.attempts == [START]


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_it_stops_at_the_first_rung_that_passes(rung: Any) -> None:
    (name, value), = rung.changes.items()
    way, _ = climbed(lambda settings: 0.9 if getattr(settings, name) == value else 5.0)
    assert way.steps[-1].rung == rung.name
    assert kept(way) == ["recipe", rung.name]
    assert way.best.settings == replace(START, **rung.changes)


def test_undecided_is_no_pass() -> None:
    way, _ = climbed(lambda settings: 0.9 if settings.equalize else 1.1)
    assert way.best.settings.equalize


def test_what_helps_is_kept_for_the_rungs_above_and_what_does_not_is_not() -> None:
    """The percentile observer helps, equalisation makes it worse, bias correction brings it home with the first."""
    def loss(settings: Quantize) -> float:
        return 4.0 - 2 * (settings.observer == "percentile") + settings.equalize - 1.5 * settings.correct_bias

    way, _ = climbed(loss)
    assert kept(way) == ["recipe", "observer percentile", "bias correction"]
    assert way.best.settings == replace(START, observer="percentile", correct_bias=True)


def test_a_rung_that_the_recipe_has_taken_already_is_skipped_and_says_so() -> None:
    shop = Toy(lambda settings: 5.0)
    way = Climb(shop)
    climb(way, replace(START, observer="mse", equalize=True))
    skipped = {step.rung: step.note for step in way.steps if step.attempt is None}
    assert skipped["observer mse"] == skipped["equalisation"] == "changes nothing here"
    assert len(shop.attempts) == len(set(shop.attempts))


def test_a_gate_that_nothing_can_meet_ends_with_the_best() -> None:
    way, _ = climbed(lambda settings: 15.0 - len(settings.keep_float) - settings.equalize, training=0.5)
    assert not way.passed
    assert [step.rung for step in way.steps if step.note] == ["16-bit activations"]
    assert way.steps[-1].rung == "short QAT"
    assert way.best.trained
    assert way.best.used == min(step.attempt.used for step in way.steps if step.attempt)
    assert len(way.best.settings.keep_float) == 1 + MOST_FLOAT


def test_training_that_makes_it_worse_is_not_kept() -> None:
    way, _ = climbed(lambda _: 5.0, training=-1.0)
    assert kept(way) == ["recipe"]
    assert not way.best.trained


def test_16_bits_are_tried_where_the_target_has_them_and_skipped_with_the_reason_where_not() -> None:
    way, _ = climbed(lambda settings: 0.5 if settings.int16 else 5.0, no_int16="")
    assert way.steps[-1].rung == "16-bit activations"
    assert way.best.settings.int16 == tuple(LAYERS[:8])
    way, _ = climbed(lambda settings: 0.5 if settings.int16 else 5.0)
    assert not way.passed
    assert [step.note for step in way.steps if step.rung == "16-bit activations"] == ["no kernels"]


@pytest.mark.parametrize("needed", [{1}, {0}, {2, 5}, {0, 1, 2}, {7}, set(range(8))])
def test_no_layer_is_left_in_float_that_the_gate_passes_without(needed: set[int]) -> None:
    names = {LAYERS[number] for number in needed}
    way, shop = climbed(lambda settings: 0.5 if names <= set(settings.keep_float) else 5.0)
    assert set(way.best.settings.keep_float) == names | {"head.output"}
    assert way.steps[-1].rung == f"{len(names)} float layer(s)"
    assert len(shop.attempts) <= 6 + 4 + 3 + 8  # rungs, doubling, halving, one without each layer
    assert len(shop.attempts) == len(set(shop.attempts))


def test_what_a_float_layer_bought_is_the_network_without_it() -> None:
    way, _ = climbed(lambda settings: 5.0 - 3.0 * ("layer1" in settings.keep_float)
                     - 1.5 * ("head.output" in settings.keep_float))
    bought = {one.layer: one.without.used - one.attempt.used for one in left_in_float(way)}
    assert bought == {"head.output": 1.5, "layer1": 3.0}


def test_what_a_float_layer_bought_does_not_include_training() -> None:
    way, _ = climbed(lambda settings: 5.0 - ("head.output" in settings.keep_float), training=1.0)
    assert way.best.trained
    (head,) = [one for one in left_in_float(way) if one.layer == "head.output"]
    assert head.without.used - head.attempt.used == 1.0


def test_a_network_with_nothing_left_on_the_grid_to_free_goes_on_to_training() -> None:
    shop = Toy(lambda _: 5.0)
    shop.worst_layers = lambda settings: []  # type: ignore[method-assign]
    way = Climb(shop)
    climb(way, START)
    assert "no convolution is left on the grid" in [step.note for step in way.steps]
    assert way.steps[-1].rung == "short QAT"
