"""Points in the plane of latency and accuracy: who is beaten, whom to train on, and who is chosen. Knows no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isnan
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """A candidate by its two goals.

    Attributes:
        score: accuracy, such that more is better; NaN where there is none.
    """

    latency_ms: float
    score: float

    def beats(self, other: Point) -> bool:
        """At least as good in both goals, and better in one."""
        return (self.latency_ms <= other.latency_ms and self.score >= other.score
                and (self.latency_ms, self.score) != (other.latency_ms, other.score))


def pareto_front(points: Mapping[T, Point]) -> list[T]:
    """Those that nobody beats, the fastest first; equal ones stay side by side, those without a score never do."""
    scored = {name: point for name, point in points.items() if not isnan(point.score)}
    front = [name for name, point in scored.items() if not any(other.beats(point) for other in scored.values())]
    return sorted(front, key=lambda name: points[name].latency_ms)


def best_first(points: Mapping[T, Point]) -> list[T]:
    """Front by front, each without those before it, and the best score of a front first; at the end those without one.

    So the most accurate of all leads, and a fast one goes before those that it beats.
    """
    left, order = dict(points), list[T]()
    while front := pareto_front(left):
        order += sorted(front, key=lambda name: -points[name].score)
        left = {name: point for name, point in left.items() if name not in front}
    return order + list(left)


def most_accurate(points: Mapping[T, Point]) -> T | None:
    """The best score; the faster of two equal ones."""
    return min(_scored(points), key=lambda name: (-points[name].score, points[name].latency_ms), default=None)


def fastest(points: Mapping[T, Point]) -> T | None:
    """The lowest latency; the more accurate of two equal ones."""
    return min(_scored(points), key=lambda name: (points[name].latency_ms, -points[name].score), default=None)


def successive_halving(names: Sequence[T], epochs: Sequence[int], keep: float,
                       learn: Callable[[T, int, int], None], order: Callable[[list[T], int], list[T]]) -> None:
    """Train all a little, then the better ones more (Jamieson and Talwalkar, AISTATS 2016).

    Args:
        epochs: that a network has learnt after each round.
        keep: share that goes on to the next round, at least one.
        learn: takes a network from one number of epochs to another.
        order: puts those that were trained to some epochs in order, the best first.
    """
    alive = list(names)
    for before, until in pairwise((0, *epochs)):
        for name in alive:
            learn(name, before, until)
        alive = order(alive, until)[:ceil(keep * len(alive))]


def _scored(points: Mapping[T, Point]) -> list[T]:
    return [name for name, point in points.items() if not isnan(point.score)]
