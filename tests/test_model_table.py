"""The table of models is true: its counts are those of the networks, and no part of a network is forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import model_table
from benchmarks.model_table import COLUMNS, FAMILIES, Family, Turns, cells, page, time_in_turn
from edgekp.preprocess import InputSpec
from edgekp.recipe import Model
from edgekp.sample import Float
from eval.machine_stamp import Stamp
from train.models import BACKBONES, HEADS, NECKS, build, spec_of
from train.models.cost import count_macs, count_parameters

TINY = Family(Model("hrnet_lite", options={"width": 8, "branches": 2, "blocks": 1, "modules": 1}),
              input=InputSpec((64, 96)))
STAMP = Stamp(processor="a processor", cores=2, system="Linux 6", runtime="onnxruntime 1", threads=1)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a Markdown table, its two first lines included."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in text.splitlines() if line.startswith("|")]


def test_every_registered_part_has_a_row() -> None:
    assert {family.model.backbone for family in FAMILIES} == set(BACKBONES)
    assert {family.model.neck for family in FAMILIES} == {*NECKS, ""}
    assert {spec_of(family.recipe).head for family in FAMILIES} == set(HEADS)


def test_no_row_is_there_twice() -> None:
    assert len({repr(family) for family in FAMILIES}) == len(FAMILIES)


def test_the_document_has_the_rows_of_the_families_in_their_order(repository: Path) -> None:
    header, _, *found = rows((repository / "docs/models.md").read_text(encoding="utf-8"))
    assert header == list(COLUMNS)
    assert len(found) == len(FAMILIES)


@pytest.mark.parametrize("index", range(len(FAMILIES)))
def test_the_documents_counts_are_those_of_the_networks(repository: Path, index: int) -> None:
    found = rows((repository / "docs/models.md").read_text(encoding="utf-8"))[2 + index]
    assert found[:-1] == cells(FAMILIES[index]), "run again: python -m benchmarks.model_table"


def test_a_row_tells_what_a_network_with_weights_counts() -> None:
    net = build(spec_of(TINY.recipe))
    assert cells(TINY)[-2:] == [f"{count_parameters(net) / 1e6:.2f} M", f"{count_macs(net, (64, 96)) / 1e6:,.0f} M"]
    assert cells(TINY)[:6] == ["`hrnet_lite` width 8, branches 2, blocks 1, modules 1", "", "`heatmap`", "`heatmap`",
                               "17", "64 x 96"]


class Clock:
    """Stands for the module ``time``: only a call of a session lets time pass."""

    wall_ns = cpu_ns = 0

    def perf_counter_ns(self) -> int:
        return self.wall_ns

    def thread_time_ns(self) -> int:
        return self.cpu_ns


class Worker:
    """A session that takes so long, and longer at first; half of the time it waits."""

    def __init__(self, name: str, wall_ms: int, clock: Clock, calls: list[str]) -> None:
        self.name, self.wall_ms, self.clock, self.calls = name, wall_ms, clock, calls

    def infer(self, inputs: Float) -> dict[str, Float]:
        cold_ms = 0 if self.calls.count(self.name) >= model_table.WARM_UPS else 1000
        self.calls.append(self.name)
        self.clock.wall_ns += (self.wall_ms + cold_ms) * 1_000_000
        self.clock.cpu_ns += self.wall_ms * 500_000
        return {}

    def close(self) -> None:
        """Nothing is open."""


def test_networks_are_called_in_turn_and_the_first_calls_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr(model_table, "time", clock)
    workers = [Worker("slow", 20, clock, calls), Worker("fast", 2, clock, calls)]
    turns = time_in_turn(workers, [np.zeros(1)] * 2, rounds=5)
    assert calls == ["slow", "fast"] * (model_table.WARM_UPS + 5)
    assert turns.p50_ms == [10, 1]  # of CPU time
    assert turns.running == 0.5


@pytest.mark.parametrize(("running", "moved", "doubts"), [
    (0.99, None, 0), (0.6, None, 1), (0.99, "the clock moved", 1), (0.6, "the clock moved", 2)])
def test_a_page_says_what_speaks_against_its_numbers(
        monkeypatch: pytest.MonkeyPatch, running: float, moved: str | None, doubts: int) -> None:
    monkeypatch.setattr(model_table, "FAMILIES", (TINY,))
    text = page(STAMP, Turns([1.234], running), 7, moved)
    assert text.count("**") == 2 * doubts
    assert "processor a processor, cores 2, system Linux 6, runtime onnxruntime 1, threads 1. 7 rounds" in text
    assert "unknown" not in text
    assert rows(text)[-1][-1] == "1.23 ms"


@pytest.mark.slow
def test_the_command_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_table, "FAMILIES", (TINY, replace(TINY, input=InputSpec((32, 32)))))
    monkeypatch.setattr(model_table, "pin_to_one_core", lambda: None)
    assert model_table.main(["--rounds", "2", "--out", str(tmp_path / "models.md")]) == 0
    _, _, large, small = rows((tmp_path / "models.md").read_text(encoding="utf-8"))
    assert [large[:-1], small[:-1]] == [cells(family) for family in model_table.FAMILIES]
    assert all(float(row[-1].removesuffix(" ms")) > 0 for row in (large, small))
