"""Every fuzz target survives its seeds and seeded mutations; and the harness sees what it is there to see.

The coverage-guided part needs atheris and minutes, and is ``make fuzz``; this needs neither.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random

import pytest

from edgekp.errors import DataError, RecipeError, StageError
from fuzz import __main__ as fuzzing
from fuzz.attempt import attempt, memory_limit
from fuzz.mutate import mutated
from fuzz.target import Target, load_target, target_names
from fuzz.targets.qdq_lint import mutate

MUTATIONS = 200
TARGET = Target((b'{"a": [1, 2], "b": {"c": "d"}}',), lambda _folder: len)


@pytest.mark.parametrize("name", target_names())
def test_the_first_seed_is_accepted(name: str, tmp_path: Path) -> None:
    """Else all fuzzing would scratch at the door."""
    target = load_target(name)
    target.reader(tmp_path)(target.seeds[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", target_names())
def test_seeds_and_their_mutations_are_taken_or_refused(name: str, tmp_path: Path) -> None:
    target, rng = load_target(name), Random(0)
    read, inputs = target.reader(tmp_path), list(target.seeds)
    inputs += [mutated(target, rng.choice(target.seeds), rng, 4096) for _ in range(MUTATIONS)]
    for data in inputs:
        finding = attempt(read, data)
        assert finding is None, f"{data[:300]!r}\n{finding.story}"


@pytest.mark.parametrize("name", target_names())
def test_mutations_of_mutations_of_mutations_are_made_without_fail(name: str) -> None:
    target, rng = load_target(name), Random(0)
    data = target.seeds[0]
    for _ in range(500):
        data = mutated(target, data, rng, 4096) or target.seeds[0]


def test_a_graph_whose_names_are_no_text_can_be_mutated() -> None:
    data = load_target("qdq_lint").seeds[0].replace(b"QuantizeLinear", b"Quantize\xffinear")
    for number in range(1000):
        mutate(data, Random(number))


def raises(error: BaseException) -> Callable[[bytes], object]:
    def read(_data: bytes) -> None:
        raise error
    return read


def test_only_our_own_errors_are_refusals() -> None:
    assert attempt(raises(DataError("no")), b"") is None
    for error in (ValueError(), RecursionError(), MemoryError(), AssertionError()):
        finding = attempt(raises(error), b"")
        assert finding is not None
        assert finding.key.startswith(type(error).__name__)


def test_a_hang_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_data: bytes) -> None:
        while True:
            try:
                sum(range(100))
            except Exception:  # noqa: BLE001 - a parser that swallows what it does not know must not swallow the alarm
                continue

    monkeypatch.setattr("fuzz.attempt.LONGEST_S", 0.05)
    finding = attempt(read, b"")
    assert finding is not None
    assert finding.key.startswith("TooSlow")


def test_a_gigabyte_is_a_finding() -> None:
    with memory_limit(1 << 28):
        finding = attempt(lambda _data: bytearray(1 << 29), b"")
    assert finding is not None
    assert finding.key.startswith("MemoryError")
    assert attempt(lambda _data: bytearray(1 << 29), b"") is None  # the limit is gone behind the block


def test_mutations_repeat_with_their_seed_keep_to_the_length_and_often_stay_json() -> None:
    rng, again = Random(1), Random(1)
    results = [mutated(TARGET, TARGET.seeds[0], rng, 50) for _ in range(300)]
    assert results == [mutated(TARGET, TARGET.seeds[0], again, 50) for _ in range(300)]
    assert max(map(len, results)) <= 50
    assert len(set(results)) > 200

    def is_json(data: bytes) -> bool:
        try:
            json.loads(data)
        except ValueError:
            return False
        return True
    assert sum(map(is_json, results)) > 60


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'recipe_toml'"):
        load_target("recipe_tom")


def test_minutes_add_up_and_mended_findings_join_the_corpus(tmp_path: Path) -> None:
    fuzzing.keep(tmp_path, "pts", minutes=3.0, executions=10)
    fuzzing.keep(tmp_path, "pts", minutes=6.0, findings=1)
    fuzzing.keep(tmp_path, "via", minutes=1.0)
    assert fuzzing.tally_of(tmp_path, "pts") == fuzzing.Tally(6.0, 10, 1)
    assert fuzzing.table(tmp_path, ["pts"]).splitlines()[1].split() == ["pts", "6.0", "10", "1"]
    for part in ("corpus", "findings"):
        (tmp_path / "pts" / part).mkdir(parents=True)
    (tmp_path / "pts" / "findings" / "ValueError-pts").write_bytes(b"{")
    (tmp_path / "pts" / "findings" / "ValueError-pts.txt").write_text("a traceback")
    assert fuzzing.open_findings(tmp_path / "pts") == []
    assert (tmp_path / "pts" / "corpus" / "ValueError-pts").read_bytes() == b"{"
    assert not any((tmp_path / "pts" / "findings").iterdir())


@pytest.mark.parametrize(("code", "fails"), [(0, False), (77, False), (1, True)])
def test_a_worker_that_fails_by_itself_is_no_fuzzing(code: int, fails: bool, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker"
    worker.write_text(f"#!/bin/sh\necho '#12 INITED' >&2\necho 'ValueError: the mutation' >&2\nexit {code}\n")
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))
    with pytest.raises(StageError, match=r"(?s)'pts' failed: .*the mutation") if fails else nullcontext():
        fuzzing.fuzz_round(tmp_path / "corpus", "pts", 0.1)
    assert fuzzing.tally_of(tmp_path / "corpus", "pts").executions == (0 if fails else 12)
