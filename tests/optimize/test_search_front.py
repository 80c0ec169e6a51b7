"""Fronts and halving on planted points: who is beaten, who goes on, who is chosen."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from edgekp.recipe import Eval
from optimize.search.answer import Answer, Budget, Record, answered, loss, table_of
from optimize.search.front import Point, best_first, fastest, most_accurate, pareto_front, successive_halving

#          a fast one, a good one, one between them; one that is slower and worse than the good one; one without a score
PLANTED = {"fast": Point(1.0, 0.2), "good": Point(3.0, 0.6), "between": Point(2.0, 0.5), "beaten": Point(3.5, 0.55),
           "broken": Point(0.1, nan)}


def test_the_front_leaves_out_the_beaten_and_what_has_no_score() -> None:
    assert pareto_front(PLANTED) == ["fast", "between", "good"]


def test_equal_points_share_the_front_and_a_tie_in_one_goal_does_not() -> None:
    points = {"one": Point(1.0, 0.5), "same": Point(1.0, 0.5), "slower": Point(1.5, 0.5), "worse": Point(1.0, 0.4)}
    assert pareto_front(points) == ["one", "same"]


def test_the_front_is_what_a_walk_from_the_fastest_finds() -> None:
    """Against the other definition: sorted by latency, each that is better than all before it."""
    rng = np.random.default_rng(0)
    points = {number: Point(*rng.uniform(0, 1, 2).tolist()) for number in range(200)}
    walked, best = [], -inf
    for number in sorted(points, key=lambda number: points[number].latency_ms):
        if points[number].score > best:
            walked, best = [*walked, number], points[number].score
    assert pareto_front(points) == walked


def test_front_by_front_and_in_each_the_best_score_first() -> None:
    assert best_first(PLANTED) == ["good", "between", "fast", "beaten", "broken"]


def test_the_most_accurate_and_the_fastest_need_a_score_and_break_ties_by_the_other_goal() -> None:
    tied = PLANTED | {"good but slower": Point(4.0, 0.6), "fast but worse": Point(1.0, 0.1)}
    assert (most_accurate(tied), fastest(tied)) == ("good", "fast")
    assert most_accurate({"broken": PLANTED["broken"]}) is fastest({}) is None


def test_halving_trains_the_better_ones_on_from_where_they_were() -> None:
    """Eight networks whose worth is their name: 8, 4 and 2 of them learn, in steps that add up to the epochs stated."""
    steps: list[tuple[int, int, int]] = []
    successive_halving(range(8), (1, 3, 9), 0.5, lambda *step: steps.append(step),
                       lambda alive, _: sorted(alive, reverse=True))
    assert steps == [*((n, 0, 1) for n in range(8)), *((n, 1, 3) for n in (7, 6, 5, 4)), (7, 3, 9), (6, 3, 9)]


@pytest.mark.parametrize(("keep", "learnt"), [(1.0, 6), (0.4, 5), (0.01, 4)])
def test_at_least_one_goes_on(keep: float, learnt: int) -> None:
    steps: list[tuple[int, int, int]] = []
    successive_halving("abc", (1, 2), keep, lambda *step: steps.append(step), lambda alive, _: alive)
    assert len(steps) == learnt


def record(name: str, p50_ms: float, accuracy: float | None, drop: float | None = None) -> Record:
    return Record(name, 8, 64, 64, 0.0, "fp32", 1, 1, 1, p50_ms, p50_ms, p50_ms, 0 if accuracy is None else 2, accuracy,
                  drop)


def answer(budget: Budget, *records: Record, lower_is_better: bool = False) -> Answer:
    return answered(Answer("tiny", "cpu", "a board", "AP", lower_is_better, budget, 24, list(records), {}))


RECORDS = (record("small", 1.0, 0.4, 0.2), record("middle", 2.0, 0.55, 0.05), record("large", 4.0, 0.6, 0.0),
           record("untrained", 0.5, None))


@pytest.mark.parametrize(("budget", "best"), [
    (Budget(4.0, None), "large"), (Budget(3.99, None), "middle"), (Budget(1.0, None), "small"),
    (Budget(0.9, None), None), (Budget(None, 0.0), "large"), (Budget(None, 0.05), "middle"),
    (Budget(None, 0.5), "small"), (Budget(1.5, 0.1), None), (Budget(3.0, 0.1), "middle")])
def test_milliseconds_give_the_most_accurate_and_a_drop_alone_the_fastest(budget: Budget, best: str | None) -> None:
    assert answer(budget, *RECORDS).best == best


def test_the_sentence_names_the_winner_or_how_fast_the_fastest_is() -> None:
    assert answer(Budget(2.5, None), *RECORDS).sentence == ("middle keeps 2.5 ms: 2.00 ms, AP 0.5500 after 2 of 24 "
                                                           "epochs")
    assert answer(Budget(0.2, 0.1), *RECORDS).sentence == ("nothing keeps 0.2 ms and a drop of 0.1; the fastest of 4 "
                                                           "candidates is untrained with 0.50 ms")


def test_where_lower_is_better_the_front_turns_round() -> None:
    found = answer(Budget(9.0, None), record("a", 1.0, 0.08), record("b", 2.0, 0.05), record("c", 3.0, 0.06),
                   lower_is_better=True)
    assert found.best == "b"
    assert [entry.name for entry in found.records if entry.on_front] == ["a", "b"]


def test_a_loss_is_points_of_ap_and_a_share_of_nme() -> None:
    assert loss(0.6, 0.5, Eval()) == pytest.approx(0.1)
    assert loss(0.04, 0.05, Eval("nme")) == pytest.approx(0.25)
    assert loss(None, 0.5, Eval()) is loss(0.5, None, Eval()) is None


def test_the_table_shows_what_was_trained_and_the_three_nearest_above_the_budget() -> None:
    above = [record(f"slow{number}", 10.0 + number, None) for number in range(6)]
    head, *lines = table_of(answer(Budget(3.0, None), *reversed(above), *RECORDS[:3])).splitlines()
    assert [line.split()[0] for line in lines] == ["small", "middle", "large", "slow0", "slow1", "slow2"]
    assert [line.split()[-1] for line in lines[:3]] == ["front", "best", "budget"]
    assert "AP" in head


def test_zeros_rank_nothing_and_the_answer_says_so() -> None:
    nothing = answer(Budget(9.0, None), record("a", 1.0, 0.0), replace(record("b", 2.0, None), epochs=2))
    assert not nothing.is_ranked
    assert nothing.best is None
    assert not any(entry.on_front for entry in nothing.records)
    assert nothing.sentence == ("nothing is ranked: no candidate has learnt anything after 2 of 24 epochs (AP 0 or "
                                "none); raise search.epochs")


def test_a_zero_is_neither_on_the_front_nor_the_best_where_others_have_learnt() -> None:
    found = answer(Budget(9.0, None), record("a", 1.0, 0.0), record("b", 2.0, 0.1))
    assert found.is_ranked
    assert found.best == "b"
    assert [entry.name for entry in found.records if entry.on_front] == ["b"]


def test_what_was_not_trained_is_no_sign_of_learning_nothing() -> None:
    assert answer(Budget(0.1, None), record("a", 1.0, None)).is_ranked
    assert answer(Budget(9.0, None), record("a", 1.0, 0.0), lower_is_better=True).best == "a"
