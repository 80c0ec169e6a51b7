"""How often the accuracy gate is right, beside the rule that people use.

Sets are drawn again and again from populations in which the candidate's true loss is known: none, the budget, twice
the budget. Beside each decision stands that of the rule "the drop is larger than the budget", and whether the bounds
held the truth. A second table asks how often a part of the data is called worse where none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import populations
from benchmarks.populations import REAL_SETS, Drawn, Population, RealSet
from edgekp.data_folder import data_root
from eval.accuracy_gate import FEW_BUDGET, RISK, decide, default_budget
from eval.bootstrap import Weighted, resample
from eval.metrics import Metric, metric_chosen
from eval.slices import slice_losses, slice_metric
from eval.verdict import ORDER

SIZES = (200, 500, 2000)
REAL_N = 500
ONE_POINT = 0.01
TIMES_BUDGET = (0, 1, 2)
RESAMPLES = 500
Record = dict[str, Any]


def records(repetitions: int = 500) -> list[Record]:
    """Two records a population, size and effect, one a rule; those of real sets only where the data is."""
    data = data_root()
    equal = populations.made_up_people(0.0)
    found = [record for n in SIZES for budget in (ONE_POINT, default_budget(equal.metric, n, equal.baseline))
             for times in TIMES_BUDGET
             for record in judged(populations.made_up_people(times * budget), n, budget, repetitions)]
    for real in REAL_SETS if (data / REAL_SETS[0].labels).is_file() else ():
        for times in TIMES_BUDGET:
            found += judged(populations.real_images(data, real, times * FEW_BUDGET), REAL_N, FEW_BUDGET, repetitions)
        found += parts_called_worse(data, real, REAL_N, repetitions)
    return found


def judged(population: Population, n: int, budget: float, repetitions: int, seed: int = 0) -> list[Record]:
    """The gate's rule and the naive one on the same sets, and how often the bounds held the true loss."""
    rng = np.random.default_rng(seed)
    ours, naive, held = [], [], np.zeros(3)
    for _ in range(repetitions):
        drawn = population.draw(rng, n)
        losses = resample(loss_of(population.metric, drawn), drawn.n_images, RESAMPLES)
        interval = losses.intervals()[0]
        ours.append(decide(interval, budget, drawn.n_images))
        naive.append("fail" if interval.point > budget else "pass")
        low, high = np.quantile(losses.values, [0.025, 0.975])
        held += [interval.lower <= population.loss, population.loss <= interval.upper, low <= population.loss <= high]
    about = {"gate": "accuracy", "population": population.name, "metric": population.metric.judged,
             "true_effect": population.loss, "n": n, "budget": budget, "repetitions": repetitions}
    bounds = dict(zip(("lower_bound_held", "upper_bound_held", "interval_95_held"), (held / repetitions).tolist(),
                      strict=True))
    return [{**about, "rule": "paired bootstrap, one-sided 95 %", **shares(ours), **bounds},
            {**about, "rule": "drop > budget", **shares(naive)}]


def loss_of(metric: Metric, drawn: Drawn) -> Weighted:
    """What the second model loses, as a function of how often each image counts."""
    return lambda weights: metric.loss(drawn.first(weights), drawn.second(weights))


def shares(outcomes: Sequence[str]) -> dict[str, float]:
    return {outcome: outcomes.count(outcome) / len(outcomes) for outcome in ORDER}


def parts_called_worse(data: Path, real: RealSet, n: int, repetitions: int, seed: int = 0) -> list[Record]:
    """How often some part of the data is called worse though none is: with Holm's correction, and without."""
    rng, metric = np.random.default_rng(seed), metric_chosen(real.choice)
    first, second = populations.real_models(data, real, 0.0)
    sliced, sliced_second = slice_metric(metric, first), slice_metric(metric, second)
    corrected, alone = [], []
    for _ in range(repetitions):
        drawn = populations.draw_images(rng, first.truth, n, sliced.weigh, sliced_second.weigh)
        losses = resample(loss_of(metric, drawn), drawn.n_images, RESAMPLES)
        parts = slice_losses(sliced, sliced_second, losses, allowed=1.0)
        corrected.append("fail" if any(part.p_loss < RISK for part in parts) else "pass")
        alone.append("fail" if any(part.loss.lower > 0 for part in parts) else "pass")
    about = {"gate": "accuracy, parts", "population": real.name, "metric": metric.keypoint_judged, "true_effect": 0.0,
             "n": n, "budget": 0.0, "repetitions": repetitions}
    return [{**about, "rule": "Holm over all parts", **shares(corrected)},
            {**about, "rule": "each part by itself", **shares(alone)}]


def line(record: Record) -> str:
    """One record, aligned."""
    outcomes = "   ".join(f"{outcome} {record[outcome]:5.3f}" for outcome in ORDER)
    held = (f"   bounds held {record['lower_bound_held']:.3f} {record['upper_bound_held']:.3f} "
            f"{record['interval_95_held']:.3f}" if "lower_bound_held" in record else "")
    return (f"{record['population']:26} n {record['n']:4}   true {record['true_effect']:+.4f} of "
            f"{record['budget']:.4f}   {record['rule']:32}   {outcomes}{held}")
