"""What became of the tries of one fault: counts only; it does not know how a fault is made.

Each try ends in one of three ways.

* **survived**: refused with one clear line, or mended, or the result is right bit for bit.
* **lost**: data of the user or an earlier result is gone, or there was a crash without a clear line, or a hang.
* **silent**: a wrong result, or damaged input put to use, without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

VERDICTS = ("survived", "lost", "silent")


@dataclass(frozen=True)
class Outcome:
    """How often one fault was tried, and how often each of the three things happened."""

    fault: str
    tried: int
    survived: int
    lost: int
    silent: int

    def __post_init__(self) -> None:
        if min(self.tried, self.survived, self.lost, self.silent) < 0:
            raise ValueError(f"{self.fault}: a count is negative: {self}")
        if self.survived + self.lost + self.silent != self.tried:
            raise ValueError(f"{self.fault}: {self.survived} survived + {self.lost} lost + {self.silent} silent "
                             f"are not the {self.tried} tried")


def tally(fault: str, verdicts: Iterable[str]) -> Outcome:
    """Count verdicts, each one of ``VERDICTS``."""
    counts = Counter(verdicts)
    unknown = sorted(counts.keys() - set(VERDICTS))
    if unknown:
        raise ValueError(f"{fault}: no verdict '{unknown[0]}'; known: {', '.join(VERDICTS)}")
    return Outcome(fault, counts.total(), *(counts[verdict] for verdict in VERDICTS))
