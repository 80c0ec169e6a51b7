"""The latency gate: is a candidate slower than its baseline, both run in turn on one machine?

Each fresh process gives one number, the typical log(candidate / baseline) over up to 200 rounds, in thread CPU time;
a t-interval over the processes says how far these numbers can be trusted.

    fail        the lower bound is above 1.02 (for a limit of 1.05; other limits keep this distance), whatever the upper
    pass        the upper bound is below the limit
    undecided   neither after three looks of five processes; each look spends a third of the 5 %

Two things can only turn a verdict into undecided, so neither adds a wrong one. The baseline stands in every round
twice: if its second copy differs from its first, the machine is too unsteady to judge. And the machine must stay the
one it was: its settings, its clock and its temperature are read before and after.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import exp, inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from edgekp.artifact import require_same_contract, verify_artifact
from edgekp.errors import EdgekpError
from edgekp.stage import say
from eval.latency import Times, measure_alone, time_in_fresh_process
from eval.latency_evidence import Evidence, Process, evidence_of
from eval.machine_stamp import read_machine
from eval.verdict import Outcome, Verdict

LIMIT = 1.05
GREY_ZONE = 1.05 / 1.02  # limit over the slowdown from which the lower bound fails
LOOKS = (5, 10, 15)  # processes seen at each
ALPHA = 0.05 / len(LOOKS)  # one-sided, at each look
SELF_CHECK_RATIO = 1.02  # a model may not differ from itself by more
PROCESS_SECONDS = 1.2  # of rounds, so that fifteen processes and their start fit into 30 seconds


@dataclass(frozen=True)
class Decision:
    """What the rule says.

    Attributes:
        ratio, lower, upper: candidate over baseline, with the bounds of the look that decided.
        processes: how many this look saw.
    """

    outcome: Outcome
    reason: str
    ratio: float
    lower: float
    upper: float
    processes: int


def judge_latency(baseline: Path, candidate: Path, limit: float = LIMIT, subject: str = "") -> Verdict:
    """Verdict on the candidate's latency, measured here in up to 3 x 5 processes."""
    return judge_evidence(measure_evidence(baseline, candidate, limit), limit, subject)


def measure_evidence(baseline: Path, candidate: Path, limit: float = LIMIT) -> Evidence:
    """Measure until the rule decides, or has had its three looks.

    Raises:
        EdgekpError: The artifacts do not fit each other or do not run, or the limit is no ratio.
    """
    _require_ratio(limit)
    artifacts = verify_artifact(baseline), verify_artifact(candidate)
    require_same_contract(*artifacts)
    machine = read_machine()
    say("latency: memory and energy of each model alone")
    alone = measure_alone(baseline), measure_alone(candidate)
    times: list[Times] = []
    for look, seen in enumerate(LOOKS, 1):
        while len(times) < seen:
            say(f"latency: look {look} of at most {len(LOOKS)}, process {len(times) + 1} of {seen}")
            times.append(time_in_fresh_process([baseline, baseline, candidate], len(times), seconds=PROCESS_SECONDS))
        evidence = evidence_of(times, artifacts, alone, machine, read_machine())
        if evidence.unsteady or decide(evidence.processes, limit).outcome != "undecided":
            break
    return evidence


def judge_evidence(evidence: Evidence, limit: float = LIMIT, subject: str = "") -> Verdict:
    """The verdict that the rule draws from what was measured, here or elsewhere."""
    _require_ratio(limit)
    decision = decide(evidence.processes, limit)
    outcome, reason = decision.outcome, decision.reason
    if evidence.unsteady:
        outcome, reason = "undecided", f"{reason}; {evidence.unsteady}"
    pace = f"{1 / decision.ratio:.2f}x faster" if decision.ratio < 1 else f"{decision.ratio:.2f}x slower"
    change = f"{evidence.baseline.wall_ms.p50:.2f} -> {evidence.candidate.wall_ms.p50:.2f} ms"
    return Verdict("latency", subject, outcome, change, f"{pace}; {reason}", _numbers(evidence, decision, limit))


def decide(processes: tuple[Process, ...], limit: float) -> Decision:
    """The decision of the first look that comes to one, else that of the last."""
    for seen in LOOKS:
        decision = decide_at_one_look([process.log_ratio for process in processes[:seen]],
                                      [process.self_log_ratio for process in processes[:seen]], limit)
        if decision.outcome != "undecided" or seen >= len(processes):
            break
    return decision


def decide_at_one_look(log_ratios: list[float], self_log_ratios: list[float], limit: float = LIMIT) -> Decision:
    """The decision from one number a process, each log(candidate / baseline), and the baseline against itself."""
    ratio = exp(np.mean(log_ratios))
    lower, upper = (exp(bound) for bound in t_interval(log_ratios))
    self_lower, self_upper = (exp(bound) for bound in t_interval(self_log_ratios))
    text = f"{ratio:.3f} x the baseline's CPU time ({lower:.3f} to {upper:.3f}), limit {limit:.2f}"
    outcome: Outcome = "undecided"
    if self_lower > SELF_CHECK_RATIO or self_upper < 1 / SELF_CHECK_RATIO:
        text += (f"; the baseline differs from itself by {self_lower:.3f} to {self_upper:.3f}: "
                 "the machine is too unsteady")
    elif lower > limit / GREY_ZONE:
        text += f"; surely above {limit / GREY_ZONE:.2f}"
        outcome = "fail"
    elif upper < limit:
        outcome = "pass"
    return Decision(outcome, text, ratio, lower, upper, len(log_ratios))


def t_interval(values: list[float], alpha: float = ALPHA) -> tuple[float, float]:
    """Bounds of the mean, each one-sided at ``alpha`` (Student)."""
    mean = float(np.mean(values))
    reach = float(stdtrit(len(values) - 1, 1 - alpha) * np.std(values, ddof=1) / sqrt(len(values)))
    return mean - reach, mean + reach


def _numbers(evidence: Evidence, decision: Decision, limit: float) -> dict[str, Any]:
    """All that a verdict's reason rests on, flat."""
    baseline, candidate = asdict(evidence.baseline), asdict(evidence.candidate)
    costs = {f"baseline_{name}": value for name, value in baseline.items()}
    costs |= {f"candidate_{name}": value for name, value in candidate.items()}
    return {**costs, "ratio": decision.ratio, "ratio_lower": decision.lower, "ratio_upper": decision.upper,
            "speedup": 1 / decision.ratio, "limit": limit, "alpha": ALPHA, "clock": evidence.clock,
            "process_ratios": [exp(process.log_ratio) for process in evidence.processes],
            "self_check_ratios": [exp(process.self_log_ratio) for process in evidence.processes],
            "readings": [asdict(reading) for process in evidence.processes for reading in process.readings],
            "processes": decision.processes, "stamp": asdict(evidence.stamp)}


def _require_ratio(limit: float) -> None:
    if not 0 < limit < inf:
        raise EdgekpError(f"--limit {limit}: expected a ratio above 0, such as 1.05")
