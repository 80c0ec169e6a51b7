"""What a search found: a record for each candidate, the front among them, and the one that keeps the budget.

Knows no network and no file; accuracies are those of short trainings, and every record says of how many epochs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgekp.recipe import Eval
from eval.metrics import metric_chosen
from eval.table import MISSING, aligned
from optimize.search.front import Point, fastest, most_accurate, pareto_front

UNTRAINED_SHOWN = 3  # of the candidates above the budget, those nearest to it


@dataclass(frozen=True)
class Record:
    """One candidate. ``accuracy`` is None where it was not trained, or where no output was finite.

    Attributes:
        drop: loss against the recipe's own float network at the same number of epochs.
        on_front: whether no other candidate is as fast and more accurate, or faster and as accurate.
    """

    name: str
    width: float | None
    input_height_px: int
    input_width_px: int
    macs_reduction: float
    precision: str
    macs: int
    parameters: int
    size_bytes: int
    p50_ms: float
    p50_lowest_ms: float
    p50_highest_ms: float
    epochs: int = 0
    accuracy: float | None = None
    drop: float | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Budget:
    """What a user asked for; one of the two at least.

    Attributes:
        latency_ms: largest median time of one call.
        drop: largest loss against the recipe's own float network at the same number of epochs: points of AP or PCK as
            a fraction (0.02 is 2 points), for NME relative, as the gate's budget.
    """

    latency_ms: float | None
    drop: float | None

    @property
    def spelled(self) -> str:
        parts = [f"{self.latency_ms:g} ms" if self.latency_ms is not None else "",
                 f"a drop of {self.drop:g}" if self.drop is not None else ""]
        return " and ".join(part for part in parts if part)

    def has_time_for(self, p50_ms: float) -> bool:
        return self.latency_ms is None or p50_ms <= self.latency_ms

    def is_kept_by(self, record: Record) -> bool:
        """Whether a candidate that was trained is fast and accurate enough."""
        return (record.accuracy is not None and self.has_time_for(record.p50_ms)
                and (self.drop is None or (record.drop is not None and record.drop <= self.drop)))


@dataclass(frozen=True)
class Answer:
    """All that a page or a file tells of a search; ``best`` is the name of the candidate that was found."""

    recipe: str
    target: str
    machine: str
    metric: str
    lower_is_better: bool
    budget: Budget
    epochs_of_full_run: int
    records: list[Record]
    left_out: dict[str, str]
    best: str | None = None

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        budget = fields.pop("budget")
        candidates = fields.pop("records")
        return fields | {"budget_ms": budget["latency_ms"], "budget_drop": budget["drop"], "candidates": candidates}

    @property
    def shown(self) -> list[Record]:
        """Those that were trained, and of the others the nearest to the budget; the fastest first."""
        fastest_first = sorted(self.records, key=lambda record: record.p50_ms)
        untrained = [record for record in fastest_first if not record.epochs]
        return [record for record in fastest_first if record.epochs or record in untrained[:UNTRAINED_SHOWN]]

    @property
    def explanation(self) -> str:
        """What the numbers are, and are not."""
        return (f"Accuracies are those of short trainings: they rank candidates, and a full run has "
                f"{self.epochs_of_full_run} epochs. A pruned candidate is trained in its narrow shape from the start; "
                f"a full run prunes what it has trained.")

    @property
    def is_ranked(self) -> bool:
        """Whether of those that were trained, if any were, one has learnt something."""
        trained = [record for record in self.records if record.epochs]
        return not trained or any(self.has_learnt(record) for record in trained)

    def has_learnt(self, record: Record) -> bool:
        """Whether its accuracy ranks it: an AP or PCK of 0 is no more than none at all."""
        return record.accuracy is not None and (self.lower_is_better or record.accuracy > 0)

    def note_on(self, record: Record) -> str:
        """A few words on one candidate: best, on the front, above the budget."""
        if record.name == self.best:
            return "best"
        if not self.budget.has_time_for(record.p50_ms):
            return "above the budget"
        return "front" if record.on_front else ""

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        best = next((record for record in self.records if record.name == self.best), None)
        if best is not None:
            return (f"{best.name} keeps {self.budget.spelled}: {best.p50_ms:.2f} ms, {self.metric} "
                    f"{best.accuracy:.4f} after {best.epochs} of {self.epochs_of_full_run} epochs")
        if not self.is_ranked:
            longest = max(record.epochs for record in self.records)
            return (f"nothing is ranked: no candidate has learnt anything after {longest} of {self.epochs_of_full_run} "
                    f"epochs ({self.metric} 0 or none); raise search.epochs")
        quickest = min(self.records, key=lambda record: record.p50_ms)
        return (f"nothing keeps {self.budget.spelled}; the fastest of {len(self.records)} candidates is "
                f"{quickest.name} with {quickest.p50_ms:.2f} ms")


def loss(reference: float | None, accuracy: float | None, choice: Eval) -> float | None:
    """How much worse than the reference, in the units of the gate's budget; None where one of the two is missing."""
    if reference is None or accuracy is None:
        return None
    return float(metric_chosen(choice).loss(np.float64(reference), np.float64(accuracy)))


def answered(answer: Answer) -> Answer:
    """The answer with its front and with the best within the budget.

    That is the most accurate one where milliseconds are asked for, and the fastest one where only a drop is.
    """
    sign = -1 if answer.lower_is_better else 1
    score = {record.name: sign * (record.accuracy or 0.0) for record in answer.records if answer.has_learnt(record)}
    points = {record.name: Point(record.p50_ms, score.get(record.name, math.nan)) for record in answer.records}
    front = pareto_front(points)
    within = {record.name: points[record.name] for record in answer.records if answer.budget.is_kept_by(record)}
    best = fastest(within) if answer.budget.latency_ms is None else most_accurate(within)
    return replace(answer, records=[replace(record, on_front=record.name in front) for record in answer.records],
                   best=best)


def table_of(answer: Answer) -> str:
    """The candidates that are shown, one a line, the fastest first."""
    head = ["candidate", "p50", "of processes", answer.metric, "drop", "epochs", ""]
    return aligned([head, *(_row(record, answer) for record in answer.shown)])


def _row(record: Record, answer: Answer) -> list[str]:
    accuracy, drop = (MISSING if value is None else f"{value:.4f}" for value in (record.accuracy, record.drop))
    return [record.name, f"{record.p50_ms:.2f} ms", f"{record.p50_lowest_ms:.2f}-{record.p50_highest_ms:.2f}", accuracy,
            drop, str(record.epochs or MISSING), answer.note_on(record)]
