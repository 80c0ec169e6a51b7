"""The processes that time models: how often, in which order, with which memory. Times themselves are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edgekp.artifact import Artifact, open_artifact
from edgekp.errors import EdgekpError
from eval import latency_worker
from eval.latency import measure_alone, percentiles_ms, time_in_fresh_process
from eval.latency_worker import open_in_turn, peak_memory_bytes, runtime_of, time_in_turn, warm_up


def test_a_fresh_process_times_every_model_as_often_as_asked(toy_artifact: Callable[..., Path]) -> None:
    body = toy_artifact("body")
    times = time_in_fresh_process([body, body, body], seed=1, rounds=7)
    assert times.wall_ms.shape == times.cpu_ms.shape == (3, 7)
    assert (times.wall_ms > 0).all()
    assert (times.cpu_ms > 0).all()
    assert (times.clock, times.threads, times.runtime.split()[0]) == ("thread_cpu", 1, "onnxruntime")
    assert percentiles_ms(np.arange(1.0, 102.0)) == {"p50": 51.0, "p90": 91.0, "p99": 100.0}


def test_a_model_that_cannot_run_is_one_line(toy_artifact: Callable[..., Path]) -> None:
    body = toy_artifact("body")
    (body / "model.onnx").write_bytes(b"damaged")
    for measure in (lambda: time_in_fresh_process([body], seed=1, rounds=1), lambda: measure_alone(body)):
        with pytest.raises(EdgekpError, match=r"latency could not be measured: .*sha256") as caught:
            measure()
        assert "\n" not in str(caught.value)


class SlowSession:
    """Remembers its calls and lets each take this long, on clocks that it turns itself."""

    now_ns: ClassVar[int] = 0
    opened: ClassVar[list[str]] = []
    called: ClassVar[list[str]] = []

    def __init__(self, name: str, ms: float) -> None:
        self.name, self.ms = name, ms
        SlowSession.opened.append(name)

    def infer(self, _: object) -> None:
        SlowSession.now_ns += int(self.ms * 1e6)
        SlowSession.called.append(self.name)

    def close(self) -> None:
        pass


@pytest.fixture
def slow_models(toy_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Artifact]]:
    """Artifacts whose sessions take these milliseconds a call, with time standing still between the calls."""
    def prepare(**ms: float) -> list[Artifact]:
        for clock in ("perf_counter_ns", "thread_time_ns"):
            monkeypatch.setattr(latency_worker.time, clock, lambda: SlowSession.now_ns)
        monkeypatch.setattr(latency_worker.time, "perf_counter", lambda: SlowSession.now_ns / 1e9)
        monkeypatch.setattr(latency_worker, "open_session", lambda artifact, threads: SlowSession(
            artifact.folder.name, ms[artifact.folder.name]))
        return [open_artifact(toy_artifact(name)) for name in ms]
    return prepare


@pytest.mark.parametrize(("ms", "seconds", "rounds"), [
    (1.0, inf, 200),
    (1.0, 10.0, 200),  # all fit
    (7.0, 1.2, 57),  # of three models, 21 ms a round
    (100.0, 1.2, 20),  # never fewer
])
def test_the_seconds_bound_the_rounds(slow_models: Callable[..., list[Artifact]], ms: float, seconds: float,
                                      rounds: int) -> None:
    turns = time_in_turn(slow_models(a=ms, b=ms, c=ms), rounds=200, seconds=seconds, seed=0)
    assert np.shape(turns.wall_ns) == np.shape(turns.cpu_ns) == (3, rounds)


def test_each_model_gets_its_own_times_whatever_the_order(slow_models: Callable[..., list[Artifact]]) -> None:
    artifacts = slow_models(a=1.0, b=2.0, c=4.0)
    for seed in range(3):
        SlowSession.called.clear()
        turns = time_in_turn(artifacts, rounds=30, seconds=inf, seed=seed)
        assert np.unique(turns.cpu_ns, axis=1).tolist() == [[1e6], [2e6], [4e6]]
        rounds = np.reshape(SlowSession.called, (-1, 3))
        assert all(sorted(order) == ["a", "b", "c"] for order in rounds.tolist())
        assert len(np.unique(rounds, axis=0)) == 6  # all orders, over 50 rounds


def test_each_model_is_opened_first_in_one_process_of_three(slow_models: Callable[..., list[Artifact]]) -> None:
    artifacts = slow_models(a=1.0, b=1.0, c=1.0)
    orders = []
    for seed in range(3):
        SlowSession.opened.clear()
        sessions = open_in_turn(artifacts, first=seed)
        orders.append("".join(SlowSession.opened))
        assert [session.name for session in sessions] == ["a", "b", "c"]
    assert orders == ["abc", "bca", "cab"]


@pytest.mark.parametrize(("round_seconds", "seconds", "warm_ups"), [
    (0.001, inf, 20), (0.001, 1.2, 20), (0.04, 1.2, 8), (1.0, 1.2, 5)])
def test_warm_ups_are_fewer_where_rounds_are_long(monkeypatch: pytest.MonkeyPatch, round_seconds: float,
                                                  seconds: float, warm_ups: int) -> None:
    clock = iter(np.arange(1000) * round_seconds)
    monkeypatch.setattr(latency_worker.time, "perf_counter", lambda: float(next(clock)))
    calls: list[int] = []
    assert warm_up(lambda: calls.append(1), seconds) == (warm_ups, pytest.approx(round_seconds))
    assert len(calls) == warm_ups


def test_models_of_two_runtimes_are_not_compared(toy_artifact: Callable[..., Path]) -> None:
    artifact = open_artifact(toy_artifact("body"))
    checkpoint = Artifact(artifact.folder, "checkpoint", artifact.contract, artifact.model, artifact.files)
    with pytest.raises(EdgekpError, match="models of onnxruntime and torch; expected one runtime"):
        runtime_of([artifact, checkpoint])


@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_and_not_of_its_parent(repository: Path, tmp_path: Path) -> None:
    """The parent holds 200 MB more; ``ru_maxrss`` of the child would say so, too."""
    ask = "from eval.latency_worker import peak_memory_bytes as p; import json; print(json.dumps(p()))"
    parent = (f"import subprocess, sys; held = bytearray(200_000_000); held[::4096] = bytes(len(held[::4096])); "
              f"subprocess.run([sys.executable, '-c', {ask!r}], check=True)")
    lean, beside = (json.loads(subprocess.run([sys.executable, "-c", code], cwd=repository, check=True,
                                              capture_output=True, text=True).stdout) for code in (ask, parent))
    assert beside == pytest.approx(lean, rel=0.1)
    assert 10e6 < lean < 200e6
    assert peak_memory_bytes(tmp_path / "nothing") is None


def test_a_model_alone_tells_its_memory(toy_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    alone = measure_alone(toy_artifact("body"))
    assert alone.energy_mj is None
    assert alone.peak_memory_bytes is not None
    assert alone.peak_memory_bytes > 20e6
