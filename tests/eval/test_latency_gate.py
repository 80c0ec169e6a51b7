"""The latency gate's decisions on recorded and made-up noise, and one measurement that only checks the plumbing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest

from edgekp.errors import EdgekpError
from eval import latency_gate
from eval.latency import Alone, Times
from eval.latency_evidence import process_of
from eval.latency_gate import decide, decide_at_one_look, judge_evidence, judge_latency, t_interval
from eval.machine_stamp import Machine, Reading
from eval.verdict import Outcome
from tests.eval.latency_numbers import RECORDED_NOISE, STILL, evidence, processes, times

TOO_NOISY = [1.0, 1.12, 0.95, 1.14, 1.01] * 3
STEADY = [0.001, -0.001, 0.0, 0.002, -0.002]
DECISIONS = 1000


def around(ratio: float, spread: float) -> list[float]:
    """Log ratios of five processes about a ratio."""
    return [log(ratio) + spread * step for step in (-1.0, -0.5, 0.0, 0.5, 1.0)]


@pytest.mark.parametrize(("ratio", "spread", "limit", "outcome"), [
    (1.00, 0.005, 1.05, "pass"),
    (0.50, 0.050, 1.05, "pass"),
    (1.04, 0.005, 1.05, "fail"),
    (1.10, 0.020, 1.05, "fail"),
    (1.03, 0.030, 1.05, "undecided"),
    (1.00, 0.100, 1.05, "undecided"),
    (1.10, 0.010, 1.20, "pass"),
    (0.80, 0.010, 0.66, "fail"),
    (0.50, 0.010, 0.66, "pass"),
])
def test_decision_on_process_ratios(ratio: float, spread: float, limit: float, outcome: Outcome) -> None:
    decision = decide_at_one_look(around(ratio, spread), STEADY, limit)
    assert decision.outcome == outcome
    assert decision.ratio == pytest.approx(ratio)
    assert decision.lower < decision.ratio < decision.upper


@pytest.mark.parametrize("drift", [1.05, 1 / 1.05])
def test_a_machine_on_which_a_model_differs_from_itself_decides_nothing(drift: float) -> None:
    for ratio in (0.5, 1.0, 2.0):
        decision = decide_at_one_look(around(ratio, 0.001), around(drift, 0.001))
        assert decision.outcome == "undecided"
        assert "too unsteady" in decision.reason


def test_the_interval_is_students() -> None:
    lower, upper = t_interval([1.0, 2.0, 3.0, 4.0, 5.0], alpha=0.025)
    assert (lower, upper) == pytest.approx((3 - 1.9633, 3 + 1.9633), abs=1e-3)  # t(4, 0.975) = 2.776, s = 1.5811


Draw = Callable[[np.random.Generator], np.ndarray]
NOISES: dict[str, Draw] = {
    "recorded": lambda rng: rng.choice(RECORDED_NOISE - RECORDED_NOISE.mean(axis=0), 15),
    "three times the recorded": lambda rng: 3 * rng.choice(RECORDED_NOISE - RECORDED_NOISE.mean(axis=0), 15),
    "normal, 2 %": lambda rng: rng.normal(0, 0.02, (15, 2)),
    "normal, 5 %": lambda rng: rng.normal(0, 0.05, (15, 2)),  # all three looks are needed
    "one process in ten 8 % off": lambda rng: rng.normal(0, 0.004, (15, 2)) + rng.choice(
        [-0.08, 0.0, 0.08], (15, 2), p=[0.05, 0.9, 0.05])}


def shares(ratio: float, draw: Draw) -> dict[str, float]:
    """Shares of the outcomes of the whole rule, three looks and all, for a true ratio."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(DECISIONS):
        noise = np.exp(draw(rng))
        found.append(decide(processes(ratio * noise[:, 0], list(noise[:, 1])), 1.05).outcome)
    return {outcome: found.count(outcome) / DECISIONS for outcome in ("pass", "undecided", "fail")}


def at_most(share: float) -> float:
    """A share that many decisions exceed once in 30,000 tries (binomial, 4 sigma) if each exceeds ``share``."""
    return share + 4 * sqrt(share * (1 - share) / DECISIONS)


@pytest.mark.parametrize("noise", NOISES)
def test_wrong_verdicts_are_as_rare_as_promised_at_the_very_bounds(noise: str) -> None:
    """A fail at a true 1.02, or a pass at a true 1.05, is wrong; elsewhere both are rarer."""
    assert shares(1.02, NOISES[noise])["fail"] <= at_most(0.05)
    assert shares(1.05, NOISES[noise])["pass"] <= at_most(0.05)


@pytest.mark.parametrize(("noise", "sure"), [(noise, 0.85 if noise == "normal, 5 %" else 0.99) for noise in NOISES])
def test_equal_models_pass_and_ten_percent_fails(noise: str, sure: float) -> None:
    assert shares(1.0, NOISES[noise])["pass"] >= sure
    assert shares(1.1, NOISES[noise])["fail"] >= 0.99


def test_the_self_check_is_blind_to_the_candidate_and_hardly_ever_trips_on_recorded_noise() -> None:
    rng = np.random.default_rng(3)
    tripped = 0
    for _ in range(DECISIONS):
        noise = rng.choice(RECORDED_NOISE, 5)
        tripped += "too unsteady" in decide_at_one_look([0.3] * 5, noise[:, 1].tolist()).reason
    assert tripped == 0
    correlation = np.corrcoef(RECORDED_NOISE.T)[0, 1]
    assert abs(correlation) < 2 / sqrt(len(RECORDED_NOISE))  # 95 % of what uncorrelated numbers show


def test_each_process_gives_the_median_of_its_paired_ratios() -> None:
    cpu_ms = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [0.5, 1.0, 40.0]])
    found = process_of(replace(times(1.0), cpu_ms=cpu_ms))
    assert found.log_ratio == pytest.approx(log(0.5))
    assert found.self_log_ratio == 0.0


def test_the_candidate_is_held_against_both_copies_of_the_baseline() -> None:
    cpu_ms = np.array([[1.0] * 5, [1.21] * 5, [2.2] * 5])
    found = process_of(replace(times(1.0), cpu_ms=cpu_ms))
    assert exp(found.log_ratio) == pytest.approx(2.0)  # the geometric mean of 2.2 and 2.2 / 1.21
    assert exp(found.self_log_ratio) == pytest.approx(1.21)


def test_skewed_times_do_not_favour_the_candidate() -> None:
    """A median over rounds against the mean of both copies would say -1 % here."""
    cpu_ms = 2 + np.random.default_rng(1).exponential(0.2, (3, 100_000))
    found = process_of(replace(times(1.0), cpu_ms=cpu_ms))
    spread = float(np.abs(np.diff(np.log(cpu_ms[:2]), axis=0)).mean())
    assert abs(found.log_ratio) < 4 * spread / sqrt(100_000)  # near Laplace, whose median has sigma b / sqrt(n)


@pytest.mark.parametrize(("ratios", "seen", "outcome"), [
    ([0.5, 0.51, 0.52, 0.5, 0.51, *[9.0] * 10], 5, "pass"),
    ([1.0, 1.06, 0.98, 1.05, 1.01, *[1.0] * 5, *[9.0] * 5], 10, "pass"),
    (TOO_NOISY, 15, "undecided"),
    (TOO_NOISY[:5], 5, "undecided"),
])
def test_the_first_look_that_decides_is_the_last(ratios: list[float], seen: int, outcome: Outcome) -> None:
    decision = decide(processes(ratios), 1.05)
    assert (decision.outcome, decision.processes) == (outcome, seen)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Measurements in which the candidate takes each ratio in turn, process after process; the seeds asked for."""
    def prepare(ratios: Sequence[float], readings: tuple[Reading, Reading] = STILL) -> list[int]:
        seeds: list[int] = []

        def time_in_fresh_process(folders: list[Path], seed: int, seconds: float) -> Times:
            seeds.append(seed)
            return times(ratios[seed], readings)

        monkeypatch.setattr(latency_gate, "time_in_fresh_process", time_in_fresh_process)
        monkeypatch.setattr(latency_gate, "measure_alone", lambda folder: Alone(87_000_000, None))
        return seeds
    return prepare


@pytest.mark.parametrize(("ratios", "processes", "outcome"), [
    ([0.5, 0.51, 0.52, 0.5, 0.51], 5, "pass"),
    ([1.0, 1.06, 0.98, 1.05, 1.01, *[1.0] * 5], 10, "pass"),
    (TOO_NOISY, 15, "undecided"),
])
def test_undecided_measures_twice_more_at_most(toy_artifact: Callable[..., Path], measured: Callable[..., list[int]],
                                               ratios: list[float], processes: int, outcome: str) -> None:
    seeds = measured(ratios)
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"))
    assert (verdict.outcome, seeds) == (outcome, list(range(processes)))
    assert verdict.numbers["processes"] == processes


def test_a_clock_that_moves_ends_the_measurement_undecided(toy_artifact: Callable[..., Path],
                                                           measured: Callable[..., list[int]]) -> None:
    seeds = measured(TOO_NOISY, readings=(Reading(clock_mhz=1510.0), Reading(clock_mhz=1190.0)))
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"))
    assert (verdict.outcome, len(seeds)) == ("undecided", 5)
    assert "the clock moved between 1190 and 1510 MHz" in verdict.reason


def test_a_machine_that_is_changed_meanwhile_decides_nothing(
        toy_artifact: Callable[..., Path], measured: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    measured([2.0] * 15)
    modes = iter(("15W", "MAXN"))
    monkeypatch.setattr(latency_gate, "read_machine", lambda: Machine(processor="arm", cores=6, system="Linux",
                                                                     power_mode=next(modes)))
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"))
    assert verdict.outcome == "undecided"
    assert "power_mode: 15W here, MAXN there" in verdict.reason


def test_a_verdict_says_how_much_faster_and_is_strict_json(toy_artifact: Callable[..., Path],
                                                          measured: Callable[..., list[int]]) -> None:
    measured([0.5, 0.5, 0.5, 0.5, 0.5])
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"))
    assert verdict.reason.startswith("2.00x faster")
    assert verdict.change == "2.10 -> 1.10 ms"
    json.dumps(verdict.numbers, allow_nan=False)
    assert verdict.numbers["candidate_cpu_ms"] == {"p50": 1.0, "p90": 1.0, "p99": 1.0}
    assert verdict.numbers["candidate_peak_memory_bytes"] == 87_000_000
    assert verdict.numbers["candidate_energy_mj"] is None
    assert verdict.numbers["stamp"]["runtime"] == "onnxruntime 1.24.4"


def test_models_of_another_contract_and_a_limit_of_nothing_are_refused(toy_artifact: Callable[..., Path]) -> None:
    body, face = toy_artifact("body"), toy_artifact("face", skeleton="ibug68")
    with pytest.raises(EdgekpError, match="do not fit each other"):
        judge_latency(body, face)
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(EdgekpError, match="expected a ratio above 0"):
            judge_latency(body, body, limit)
        with pytest.raises(EdgekpError, match="expected a ratio above 0"):
            judge_evidence(evidence([1.0] * 5), limit)


@pytest.mark.slow
def test_the_whole_gate_runs(toy_artifact: Callable[..., Path]) -> None:
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"), limit=3.0)
    assert verdict.outcome in ("pass", "undecided")  # equal models, a generous limit; a busy machine may trip the A/A
    assert verdict.numbers["processes"] in (5, 10, 15)
