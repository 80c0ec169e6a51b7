"""``python -m optimize.search``: a budget kept or not, work done once, ledgers, and what is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from edgekp.artifact import Artifact, open_artifact
from edgekp.errors import ArtifactError, TrainingError
from edgekp.recipe_file import load_recipe
from eval.latency import Times, time_in_fresh_process
from eval.machine_stamp import Reading
from optimize.calibration_set import choose_instances
from optimize.search import __main__ as search_command
from optimize.search import latency, training
from optimize.search.__main__ import main
from optimize.search.answer import Answer, Budget, Record
from optimize.search.pictures import write_pictures
from optimize.step import Context
from tests import tiny
from train.history import Entry
from train.models import spec_of
from train.models.checkpoint import Checkpoint, load_checkpoint

SEARCH = """
[search]
widths = [8, 16]
input_sizes = [[64, 64]]
macs_reductions = [0]
epochs = [1, 2]
"""
FOLDER = Path("runs/tiny/search")
ONE = ("--set", "search.widths=[8]", "--set", "search.epochs=[1]")  # a network of two candidates, and one round
METRIC = training.Trainer._metric
TAUGHT = Context.fine_tune
Search = Callable[..., int]


def planted_metric(_: training.Trainer, artifact: Artifact) -> float:
    """More for a larger network, a little less for int8."""
    return 0.5 + 1e-6 * float(artifact.model["parameters"]) - 0.01 * (artifact.model["precision"] == "int8")


def untaught(_: Context, __: Checkpoint, net: nn.Module, *___: Any) -> tuple[nn.Module, list[Entry]]:
    """In place of training."""
    return net.eval(), []


def planted_times(folders: Sequence[Path], *_: Any) -> Times:
    """Milliseconds by name: float networks of width 8 and 16 take 2 and 4 ms, int8 ones half of that."""
    p50_ms = [{"w8": 2.0, "w16": 4.0}[folder.parent.parent.name.split("-")[0]] / (1 + (folder.name == "int8"))
              for folder in folders]
    times = np.repeat(np.array(p50_ms)[:, None], 5, axis=1)
    return Times(times + 9, times, "onnxruntime 1", 1, "thread_cpu", None, (Reading(), Reading()))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a recipe of two networks, and both built and timed; tests work on copies."""
    folder = tmp_path_factory.mktemp("built")
    tiny.write_sets(folder / "data", train=128)
    (folder / "tiny.toml").write_text(tiny.toml(SEARCH, epochs=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKP_DATA", str(folder / "data"))
        patch.chdir(folder)
        patch.setattr(latency, "time_in_fresh_process", planted_times)
        assert main(["--recipe", "tiny.toml", "--measure-only"]) == 0
    return folder


@pytest.fixture
def search(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """The command, with planted latencies and accuracies, few images for the scales, and without training."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(latency, "time_in_fresh_process", planted_times)
    monkeypatch.setattr(training.Trainer, "_metric", planted_metric)
    monkeypatch.setattr(training, "choose_instances", lambda instances, _: instances[:8])
    monkeypatch.setattr(Context, "fine_tune", untaught)
    return lambda *words: main(["--recipe", "tiny.toml", *words])


def front(folder: Path = FOLDER) -> dict[str, Any]:
    return dict(json.loads((folder / "front.json").read_text()))


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_budget_that_is_kept_gives_a_front_and_a_recipe_of_the_very_network(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Context, "fine_tune", TAUGHT)  # the one test that trains, and chooses its images
    monkeypatch.setattr(training, "choose_instances", choose_instances)
    assert search("--budget-ms", "2.5", "--budget-drop", "1") == 0
    found = front()
    records = {record["name"]: record for record in found["candidates"]}
    assert {name: record["p50_ms"] for name, record in records.items()} == {
        "w8-64x64-fp32": 2.0, "w8-64x64-int8": 1.0, "w16-64x64-fp32": 4.0, "w16-64x64-int8": 2.0}
    best = records[found["best"]]
    assert best["p50_ms"] <= 2.5
    assert best["accuracy"] == max(record["accuracy"] for record in records.values()
                                   if record["p50_ms"] <= 2.5 and record["accuracy"] is not None)
    own = records["w8-64x64-fp32"]
    assert (own["epochs"], own["drop"]) == (2, 0.0)  # the reference of the drop goes through all rounds
    assert (FOLDER / "front.png").read_bytes().startswith(b"\x89PNG")
    assert found["best"] in (FOLDER / "front.html").read_text()
    recipe = load_recipe(FOLDER / "tiny-best.toml")
    trained = load_checkpoint(FOLDER / "networks" / found["best"].rpartition("-")[0] / "epochs-1/checkpoint")
    assert spec_of(recipe) == trained.spec
    assert recipe.run_folder == Path("runs/tiny-best")  # as `make` names it by the file
    assert any(step.method == "quantize" for step in recipe.optimize) == (best["precision"] == "int8")
    said = capsys.readouterr()
    assert "Accuracies are those of short trainings" in said.out
    assert "RECIPE=runs/tiny/search/tiny-best.toml" in said.out


@pytest.mark.slow
def test_a_second_call_does_nothing_and_an_interrupted_one_goes_on(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Context, "fine_tune", tiny.nth_call(untaught, 2, KeyboardInterrupt))
    assert search("--budget-ms", "9") == 130
    assert [path.parent.name for path in FOLDER.glob("networks/*/epochs-*")] == ["w8-64x64"]
    done = state_of(FOLDER)
    monkeypatch.setattr(Context, "fine_tune", untaught)
    assert search("--budget-ms", "9") == 0
    now = state_of(FOLDER)
    assert {path: now[path] for path in done} == done
    assert len(list(FOLDER.glob("networks/*/epochs-1"))) == 2
    assert len(list(FOLDER.glob("networks/*/epochs-2"))) == 1  # the better half
    capsys.readouterr()
    assert search("--budget-ms", "9") == 0
    assert "running" not in capsys.readouterr().err
    assert state_of(FOLDER / "networks") == {path: entry for path, entry in now.items() if "/networks/" in path}


@pytest.mark.slow
def test_an_int8_file_that_differs_from_its_network_has_no_accuracy_and_ends_no_search(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    export = training.export_network

    def differing(folder: Path, name: str, *rest: Any) -> Any:
        if name == "int8":
            raise ArtifactError("differs by 0.2")
        return export(folder, name, *rest)

    monkeypatch.setattr(training, "export_network", differing)
    assert search("--budget-ms", "9", *ONE) == 0
    records = {record["precision"]: record for record in front()["candidates"]}
    assert (records["int8"]["epochs"], records["int8"]["accuracy"]) == (1, None)
    assert front()["best"] == records["fp32"]["name"]
    assert "no accuracy of int8 this time: differs by 0.2" in capsys.readouterr().err


def test_where_nothing_has_learnt_there_is_no_best_but_a_picture(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the true metric: networks that were never taught find nobody."""
    monkeypatch.setattr(training.Trainer, "_metric", METRIC)
    assert search("--budget-ms", "9", *ONE) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == ("python -m optimize.search: nothing is ranked: no candidate has learnt anything after 1 of 4 "
                    "epochs (AP 0 or none); raise search.epochs")
    found = front()
    assert [record["accuracy"] for record in found["candidates"]] == [0.0, 0.0]
    assert not any(record["on_front"] for record in found["candidates"])
    assert found["best"] is None
    assert (FOLDER / "front.png").is_file()
    assert not (FOLDER / "tiny-best.toml").exists()


def diverging(width: int) -> Callable[..., tuple[nn.Module, list[Entry]]]:
    """A training that no network of some width survives."""
    def fine_tune(_: Context, __: Checkpoint, net: nn.Module, label: str, *___: Any) -> tuple[nn.Module, list[Entry]]:
        if label == f"w{width}-64x64":
            raise TrainingError(f"{label}: the loss is nan")
        return net.eval(), []
    return fine_tune


@pytest.mark.slow
def test_a_candidate_that_diverges_is_told_and_dropped(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In the first round of two; w8 alone goes on, though all are to be kept."""
    monkeypatch.setattr(Context, "fine_tune", diverging(16))
    assert search("--budget-ms", "9", "--set", "search.keep=1.0") == 0
    found = front()
    assert {(record["width"], record["epochs"], record["accuracy"] is None) for record in found["candidates"]} == {
        (8, 2, False), (16, 1, True)}
    assert found["left_out"] == {"w16-64x64": "w16-64x64: the loss is nan"}
    assert found["best"] == "w8-64x64-fp32"
    assert "search: w16-64x64: left out: w16-64x64: the loss is nan" in capsys.readouterr().err


def test_without_the_network_that_drops_are_measured_from_there_is_no_answer(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Context, "fine_tune", diverging(8))
    assert search("--budget-drop", "0.1", *ONE) == 2
    assert "w8-64x64: the loss is nan" in capsys.readouterr().err.splitlines()[-1]


def test_a_budget_that_nothing_keeps_ends_with_1_and_the_frontier(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delattr(training, "read_pools")  # nothing is trained for it
    (FOLDER / "tiny-best.toml").write_text("of an earlier search")
    assert search("--budget-ms", "0.5", "--set", "search.widths=[8]") == 1
    said = capsys.readouterr().out
    assert "nothing keeps 0.5 ms; the fastest of 2 candidates is w8-64x64-int8 with 1.00 ms" in said
    assert re.search(r"w8-64x64-fp32 +2.00 ms .* above the budget", said)
    assert front()["best"] is None
    assert (FOLDER / "front.png").is_file()
    assert (FOLDER / "front.html").is_file()
    assert not (FOLDER / "tiny-best.toml").exists()


def test_a_search_that_is_killed_leaves_no_earlier_recipe_beside_its_front(
        search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(training, "read_pools")
    (FOLDER / "tiny-best.toml").write_text("of an earlier search")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_command, "write_pictures", killed)
    assert search("--budget-ms", "0.5", "--set", "search.widths=[8]") == 130
    assert front()["best"] is None
    assert not (FOLDER / "tiny-best.toml").exists()


@pytest.mark.slow
def test_a_ledger_stands_in_for_another_machine_if_it_is_whole_and_of_these_candidates(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert search("--measure-only", "--record", "board.json") == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "w8-64x64-int8", "w8-64x64-fp32", "w16-64x64-int8", "w16-64x64-fp32"]
    monkeypatch.delattr(latency, "time_in_fresh_process")
    replay = ("--ledger", "board.json", "--budget-ms", "0.5")
    assert search(*replay, "--set", "search.widths=[8]") == 1  # a part of the recorded space
    assert front()["candidates"][0]["p50_ms"] == 2.0
    assert search(*replay, "--set", "search.widths=[24]") == 2
    assert "lacks w24-64x64-fp32, w24-64x64-int8; record it on the board" in capsys.readouterr().err
    assert search(*replay, "--set", "model.options.blocks=2") == 2
    assert "is of other networks called w8-64x64-fp32" in capsys.readouterr().err
    document = json.loads(Path("board.json").read_text())
    document["candidates"]["w8-64x64-fp32"]["p50_ms"] = [0.1]
    Path("board.json").write_text(json.dumps(document))
    assert search(*replay) == 2
    assert "was changed or damaged since it was written" in capsys.readouterr().err
    Path("board.json").write_text("{}")
    assert search(*replay) == 2
    assert "not an edgekp-search-ledger" in capsys.readouterr().err


@pytest.mark.slow
def test_inputs_of_several_sizes_are_timed_in_one_process(
        search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(latency, "time_in_fresh_process",
                        lambda folders, seed, *_: time_in_fresh_process(folders, seed, rounds=20, seconds=1.0))
    monkeypatch.setattr(latency, "PROCESSES", 1)
    assert search("--measure-only", "--set", "search.widths=[8]", "--set", "search.precisions=['fp32']",
                  "--set", "search.input_sizes=[[64, 64], [128, 128], [60, 60]]") == 0
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.out.splitlines()] == ["w8-64x64-fp32", "w8-128x128-fp32"]
    assert "w8-60x60: left out: input.input_hw: [60, 60], but backbone 'hrnet_lite' needs multiples of 8" in said.err
    size = open_artifact(FOLDER / "networks/w8-128x128/fresh/fp32").contract.input.input_hw
    assert size == (128, 128)


@pytest.mark.parametrize(("words", "reason"), [
    ([], "expected a budget"),
    (["--budget-ms", "0"], "--budget-ms: 0, expected milliseconds above 0"),
    (["--budget-ms", "nan"], "--budget-ms: nan"),
    (["--budget-drop", "-1"], "--budget-drop: -1, expected a loss"),
    (["--budget-drop", "0.1", "--set", "search.precisions=['int8']"], "add fp32"),
    (["--measure-only", "--ledger", "x"], "--ledger: is read instead"),
    (["--budget-ms", "1", "--ledger", "nowhere.json"], "nowhere.json"),
    (["--budget-ms", "1", "--target", "jetsen"], "did you mean 'jetson'"),
    (["--budget-ms", "1", "--set", "search.widhts=[8]"], "did you mean 'widths'"),
    (["--budget-ms", "1", "--set", "search.keep=0"], "search.keep"),
    (["--budget-ms", "1", "--set", "search.epochs=[2, 2]"], "expected rising numbers"),
    (["--budget-ms", "1", "--set", "search.macs_reductions=[1.0]"], "search.macs_reductions"),
    (["--budget-ms", "1", "--set", "search.precisions=[]"], "search.precisions"),
    (["--budget-ms", "1", "--set", "search.widths=[-8]"], "search.widths"),
    (["--budget-ms", "1", "--set", "model.options.widht=8"], "widht"),
    (["--budget-ms", "1", "--set", "model={backbone='mobilefacenet'}", "--set", "codec.name='regression'",
      "--set", "train.loss='wing'"], "has no option 'width'"),
    (["--budget-ms", "1", "--set", "codec.name='openpose'", "--set", "input.padding=1.0"], "shown whole images"),
])
def test_what_cannot_be_searched_is_refused(
        search: Search, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    assert search(*words) == 2
    assert reason in capsys.readouterr().err


def test_the_page_escapes_what_the_user_wrote(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$\\frac{}$"
    record = Record(evil, None, 64, 64, 0.0, "fp32", 1, 1, 1, 1.0, 0.9, 1.1, 1, 0.5, 0.0, True)
    answer = Answer(evil, "cpu", evil, "AP", False, Budget(2.0, None), 3, [record, replace(record, accuracy=None)],
                    {evil: evil}, evil)
    write_pictures(answer, tmp_path)
    page = (tmp_path / "front.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert 'src="data:image/png;base64,' in page
