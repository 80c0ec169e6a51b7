"""The rule of every verdict, written down before anything was measured. Knows no network and no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import fmean, stdev
from typing import Literal

from scipy.stats import t as student

CONFIDENCE = 0.95  # of each of the two bounds
Verdict = Literal["holds", "does not hold", "needs hardware"]


@dataclass(frozen=True)
class Gain:
    """How much better the side that a claim favours was, once a repetition: above 0 is what the claim says.

    Attributes:
        spread: standard deviation over the repetitions; None for a single one.
        lower, upper: one-sided bounds of the true mean (Student's t); infinite for a single repetition.
    """

    values: tuple[float, ...]
    mean: float
    spread: float | None
    lower: float
    upper: float

    def verdict(self, claimed: float = 0.0) -> Verdict:
        """Holds where the lower bound is above 0 and the mean reaches the size that the source names.

        Everything else does not hold, chance not excluded and a value that is no number included.
        """
        return "holds" if self.lower > 0 and self.mean >= claimed else "does not hold"


def gain(values: Sequence[float]) -> Gain:
    """The mean of paired differences and its bounds; at least one value."""
    n = len(values)
    if n == 1 or not all(isfinite(value) for value in values):
        return Gain(tuple(values), fmean(values), None, -inf, inf)
    mean, spread = fmean(values), stdev(values)
    reach = float(student.ppf(CONFIDENCE, n - 1)) * spread / sqrt(n)
    return Gain(tuple(values), mean, spread, mean - reach, mean + reach)
