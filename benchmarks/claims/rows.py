"""Rows of runs/claims.json: flat records, with None where a number is not known or not finite."""

from __future__ import annotations

from math import isfinite
from statistics import fmean
from typing import Any

from benchmarks.claims.claim_list import CLAIMS
from benchmarks.claims.comparisons import Comparison
from benchmarks.claims.verdict import Gain, Verdict, gain

Row = dict[str, Any]


def row(claim: str, about: str, measured: float | None, unit: str, verdict: Verdict, **more: Any) -> Row:
    """One answer; ``more`` are fields that only some answers have."""
    entry = {"claim": claim, "source": CLAIMS[claim].source, "text": CLAIMS[claim].text, "about": about,
             "measured": measured, "unit": unit, "verdict": verdict, **more}
    return {name: _plain(value) for name, value in entry.items()}


def needs_hardware(claim: str, about: str = "", measured: float | None = None, unit: str = "", **more: Any) -> Row:
    """An answer that this machine cannot give; ``measured`` is what it can say instead."""
    return row(claim, about, measured, unit, "needs hardware", hardware=CLAIMS[claim].hardware, **more)


def gain_row(claim: str, about: str, found: Gain, unit: str, claimed: float = 0.0, **more: Any) -> Row:
    """The answer that repetitions give, by the rule of every verdict."""
    return row(claim, about, found.mean, unit, found.verdict(claimed), claimed=claimed or None, spread=found.spread,
               lower=found.lower, upper=found.upper, repetitions=len(found.values), gains=list(found.values), **more)


def comparison_row(comparison: Comparison, favoured: list[float], other: list[float], n: int, share: float) -> Row:
    """The answer of arms: one value a seed for each side, on ``n`` instances, after a share of the epochs."""
    measure, as_share = comparison.measure, comparison.as_share
    gains = [measure.gain(one, another, as_share) for one, another in zip(favoured, other, strict=True)]
    return gain_row(comparison.claim, comparison.about, gain(gains), measure.unit_of_gain(as_share),
                    comparison.claimed, favoured=fmean(favoured), other=fmean(other), measure=measure.name,
                    measure_unit=measure.unit, n=n, share_of_epochs=round(share, 3))


def line(entry: Row) -> str:
    """One row for people: what was found, how sure that is, and what it is called."""
    found = "" if entry["measured"] is None else f"{entry['measured']:+.4g}"
    bounds = f"[{entry['lower']:+.3g}, {entry['upper']:+.3g}]" if entry.get("lower") is not None else ""
    about = entry.get("about", "")
    return f"{entry['claim']:5} {entry['verdict']:14} {found:>9} {bounds:18} {entry['unit']:34.34}  {about}"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value
