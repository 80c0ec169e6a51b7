"""The benchmark of the latency gate: its slower model gives the same answers, its records count what the rules say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import latency_gate
from benchmarks.latency_gate import records, sequential, slowed
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact, verify_artifact


def test_the_slower_model_gives_the_same_answers_by_more_convolutions(toy_artifact: Callable[..., Path],
                                                                      tmp_path: Path) -> None:
    baseline = toy_artifact("body")
    slower = slowed(baseline, tmp_path / "slower", nodes=5)
    kinds = [[node.op_type for node in onnx.load(folder / "model.onnx").graph.node] for folder in (baseline, slower)]
    assert kinds[1].count("Conv") == kinds[0].count("Conv") + 5
    inputs = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    answers = [open_session(verify_artifact(folder)).infer(inputs) for folder in (baseline, slower)]
    for name in open_artifact(baseline).contract.codec.outputs:
        np.testing.assert_allclose(answers[0][name], answers[1][name], rtol=1e-6)


@pytest.mark.parametrize(("candidate_ms", "outcome"), [(2.0, "pass"), (2.1, "pass"), (2.11, "fail")])
def test_a_point_rule_fails_above_five_percent(monkeypatch: pytest.MonkeyPatch, candidate_ms: float,
                                               outcome: str) -> None:
    monkeypatch.setattr(latency_gate, "median_alone_ms", {Path("a"): 2.0, Path("b"): candidate_ms}.__getitem__)
    assert sequential(Path("a"), Path("b")) == outcome


def test_records_count_the_outcomes_of_every_rule_on_both_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["pass", "fail", "undecided", "fail", "pass", "fail", "pass", "fail"])
    times_ms = {Path("a"): 2.0, Path("b"): 2.2}
    monkeypatch.setattr(latency_gate, "export_model", lambda folder: Path("a"))
    monkeypatch.setattr(latency_gate, "calibrated", lambda baseline, folder: Path("b"))
    monkeypatch.setattr(latency_gate, "effect", lambda baseline, candidate, processes: 0.10003)
    monkeypatch.setattr(latency_gate, "ours", lambda baseline, candidate: next(said))
    monkeypatch.setattr(latency_gate, "median_alone_ms", times_ms.__getitem__)
    found = records(decisions=4)
    assert [(record["true_effect"], record["n"]) for record in found] == [(0.0, 4), (0.1, 4)] * 3
    assert [(record["pass"], record["undecided"], record["fail"]) for record in found] == [
        (0.75, 0.25, 0.0), (0.0, 0.0, 1.0)] + [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)] * 2
    assert {record["gate"] for record in found} == {"latency"}
