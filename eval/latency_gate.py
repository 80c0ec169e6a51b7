"""The latency gate: is a candidate slower than its baseline, both run in turn on this machine?

Each fresh process gives one number, the median over 200 rounds of log(candidate / baseline) in thread CPU time;
a t-interval over the processes says how far these numbers can be trusted. The baseline stands in every round
twice: its second copy against its first must show no difference, or the machine is too unsteady to judge.

    fail        the lower bound is above 1.02 (for a limit of 1.05; other limits keep this distance)
    pass        the upper bound is below the limit
    undecided   neither after three looks of five processes; each look spends a third of the 5 %
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from edgekp.artifact import require_same_contract, verify_artifact
from edgekp.errors import EdgekpError
from edgekp.stage import say
from eval.latency import Times, machine, percentiles_ms, time_in_fresh_process
from eval.verdict import Outcome, Verdict

LIMIT = 1.05
GREY_ZONE = 1.05 / 1.02  # limit over the slowdown from which the lower bound fails
PROCESSES_A_LOOK = 5
LOOKS = 3
ALPHA = 0.05 / LOOKS  # one-sided, at each look
SELF_CHECK_RATIO = 1.02  # a model may not differ from itself by more


@dataclass
class Evidence:
    """One number a process: medians of log(candidate / baseline), and of log(baseline / its second copy)."""

    log_ratios: list[float] = field(default_factory=list)
    self_log_ratios: list[float] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)

    def add(self, times: Times) -> None:
        """Times of baseline, baseline again and candidate."""
        baseline, again, candidate = np.log(times.cpu_ms)
        self.log_ratios.append(float(np.median(candidate - baseline)))
        self.self_log_ratios.append(float(np.median(again - baseline)))
        self.times.append(times)


def judge_latency(baseline: Path, candidate: Path, limit: float = LIMIT, subject: str = "") -> Verdict:
    """Verdict on the candidate's latency; takes up to 3 x 5 processes."""
    if not limit > 0:
        raise EdgekpError(f"--limit {limit}: expected a ratio above 0, such as 1.05")
    require_same_contract(verify_artifact(baseline), verify_artifact(candidate))
    evidence = Evidence()
    outcome: Outcome = "undecided"
    reason = ""
    for look in range(LOOKS):
        for number in range(PROCESSES_A_LOOK):
            say(f"latency: look {look + 1} of at most {LOOKS}, process {number + 1} of {PROCESSES_A_LOOK}")
            seed = look * PROCESSES_A_LOOK + number
            evidence.add(time_in_fresh_process([baseline, baseline, candidate], seed))
        outcome, reason = decide(evidence.log_ratios, evidence.self_log_ratios, limit)
        if outcome != "undecided":
            break
    return _verdict(evidence, outcome, reason, limit, subject)


def decide(log_ratios: list[float], self_log_ratios: list[float], limit: float = LIMIT) -> tuple[Outcome, str]:
    """Outcome and reason from one number a process; ratios are candidate over baseline."""
    lower, upper = (exp(bound) for bound in t_interval(log_ratios))
    self_lower, self_upper = (exp(bound) for bound in t_interval(self_log_ratios))
    text = f"{exp(np.mean(log_ratios)):.3f} x the baseline's CPU time ({lower:.3f} to {upper:.3f}), limit {limit:.2f}"
    if self_lower > SELF_CHECK_RATIO or self_upper < 1 / SELF_CHECK_RATIO:
        return "undecided", (f"{text}; the baseline differs from itself by {self_lower:.3f} to {self_upper:.3f}: "
                             "the machine is too unsteady")
    if lower > limit / GREY_ZONE:
        return "fail", text
    if upper < limit:
        return "pass", text
    return "undecided", text


def t_interval(values: list[float], alpha: float = ALPHA) -> tuple[float, float]:
    """Bounds of the mean, each one-sided at ``alpha``."""
    mean = float(np.mean(values))
    reach = float(stats.t.ppf(1 - alpha, len(values) - 1) * stats.sem(values))
    return mean - reach, mean + reach


def _verdict(evidence: Evidence, outcome: Outcome, reason: str, limit: float, subject: str) -> Verdict:
    wall_ms = np.concatenate([times.wall_ms for times in evidence.times], axis=1)
    before, after = percentiles_ms(wall_ms[0]), percentiles_ms(wall_ms[2])
    lower, upper = (exp(bound) for bound in t_interval(evidence.log_ratios))
    ratio = exp(float(np.mean(evidence.log_ratios)))
    numbers: dict[str, Any] = {
        "baseline_wall_ms": before, "candidate_wall_ms": after, "ratio": ratio, "ratio_lower": lower,
        "ratio_upper": upper, "speedup": 1 / ratio, "limit": limit, "alpha": ALPHA,
        "process_ratios": [exp(value) for value in evidence.log_ratios],
        "self_check_ratios": [exp(value) for value in evidence.self_log_ratios],
        "processes": len(evidence.times), "pinned": evidence.times[0].pinned_to is not None, "machine": machine()}
    pace = f"{1 / ratio:.2f}x faster" if ratio < 1 else f"{ratio:.2f}x slower"
    change = f"{before['p50']:.2f} -> {after['p50']:.2f} ms"
    return Verdict("latency", subject, outcome, change, f"{pace}; {reason}", numbers)
