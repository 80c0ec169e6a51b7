"""The latency gate's decision on made-up times, and one small measurement that only checks the plumbing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekp.errors import EdgekpError
from eval import latency_gate
from eval.latency import Times, percentiles_ms, time_in_fresh_process
from eval.latency_gate import Evidence, decide, judge_latency, t_interval
from eval.verdict import Outcome

STEADY = [0.001, -0.001, 0.0, 0.002, -0.002]


def around(ratio: float, spread: float) -> list[float]:
    """Log ratios of five processes about a ratio."""
    return [math.log(ratio) + spread * step for step in (-1.0, -0.5, 0.0, 0.5, 1.0)]


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
    assert decide(around(ratio, spread), STEADY, limit)[0] == outcome


@pytest.mark.parametrize("drift", [1.05, 1 / 1.05])
def test_a_machine_on_which_a_model_differs_from_itself_decides_nothing(drift: float) -> None:
    for ratio in (0.5, 1.0, 2.0):
        outcome, reason = decide(around(ratio, 0.001), around(drift, 0.001))
        assert outcome == "undecided"
        assert "too unsteady" in reason


def test_equal_models_hardly_ever_fail() -> None:
    rng = np.random.default_rng(4)
    fails = sum(decide(rng.normal(0, 0.02, 5).tolist(), STEADY)[0] == "fail" for _ in range(500))
    assert fails <= 0.017 * 500


def test_the_interval_is_students() -> None:
    lower, upper = t_interval([1.0, 2.0, 3.0, 4.0, 5.0], alpha=0.025)
    assert (lower, upper) == pytest.approx((3 - 1.9633, 3 + 1.9633), abs=1e-3)  # t(4, 0.975) = 2.776, s = 1.5811


def test_each_process_gives_the_median_of_its_paired_ratios() -> None:
    cpu_ms = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [0.5, 1.0, 40.0]])
    evidence = Evidence()
    evidence.add(Times(cpu_ms, cpu_ms, None))
    assert evidence.log_ratios == [pytest.approx(math.log(0.5))]
    assert evidence.self_log_ratios == [0.0]


def faked(ratios: list[float], seen: list[int]) -> Callable[..., Times]:
    """Times in which the candidate takes each ratio in turn, process after process."""
    def measure(folders: list[Path], seed: int) -> Times:
        seen.append(seed)
        cpu_ms = np.stack([np.full(4, 2.0), np.full(4, 2.0), np.full(4, 2.0 * ratios[seed])])
        return Times(cpu_ms, cpu_ms, 0)
    return measure


@pytest.mark.parametrize(("ratios", "processes", "outcome"), [
    ([0.5, 0.51, 0.52, 0.5, 0.51], 5, "pass"),
    ([1.0, 1.06, 0.98, 1.05, 1.01, *[1.0] * 5], 10, "pass"),
    ([1.0, 1.12, 0.95, 1.14, 1.01] * 3, 15, "undecided"),
])
def test_undecided_looks_again_twice_at_most(toy_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
                                             ratios: list[float], processes: int, outcome: str) -> None:
    seen: list[int] = []
    monkeypatch.setattr(latency_gate, "time_in_fresh_process", faked(ratios, seen))
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"))
    assert (verdict.outcome, seen) == (outcome, list(range(processes)))
    assert verdict.numbers["processes"] == processes


def test_a_verdict_says_how_much_faster_and_is_strict_json(toy_artifact: Callable[..., Path],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_gate, "time_in_fresh_process", faked([0.5, 0.5, 0.5, 0.5, 0.5], []))
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"))
    assert verdict.reason.startswith("2.00x faster")
    assert verdict.change == "2.00 -> 1.00 ms"
    json.dumps(verdict.numbers, allow_nan=False)


def test_models_of_another_contract_and_a_limit_of_nothing_are_refused(toy_artifact: Callable[..., Path]) -> None:
    body, face = toy_artifact("body"), toy_artifact("face", skeleton="ibug68")
    with pytest.raises(EdgekpError, match="do not fit each other"):
        judge_latency(body, face)
    with pytest.raises(EdgekpError, match="expected a ratio above 0"):
        judge_latency(body, body, limit=0.0)


def test_a_fresh_process_times_every_model_as_often_as_asked(toy_artifact: Callable[..., Path]) -> None:
    body = toy_artifact("body")
    times = time_in_fresh_process([body, body, body], seed=1, rounds=7)
    assert times.wall_ms.shape == times.cpu_ms.shape == (3, 7)
    assert (times.wall_ms > 0).all()
    assert percentiles_ms(np.arange(1.0, 102.0)) == {"p50": 51.0, "p90": 91.0, "p99": 100.0}


def test_a_model_that_cannot_run_is_one_line(toy_artifact: Callable[..., Path]) -> None:
    body = toy_artifact("body")
    (body / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(EdgekpError, match=r"latency could not be measured: .*sha256") as caught:
        time_in_fresh_process([body], seed=1, rounds=1)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_whole_gate_runs(toy_artifact: Callable[..., Path]) -> None:
    verdict = judge_latency(toy_artifact("float"), toy_artifact("int8"), limit=3.0)
    assert verdict.outcome in ("pass", "undecided")  # equal models, a generous limit; a busy machine may trip the A/A
    assert verdict.numbers["processes"] in (5, 10, 15)
