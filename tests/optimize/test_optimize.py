"""``python -m optimize``: steps in order, each run when something it depends on has changed, and only then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from deploy.export.__main__ import checkpoints_of
from edgekp.errors import StageError
from edgekp.recipe import Recipe
from edgekp.recipe_file import load_recipe
from edgekp.recipe_steps import Distill, Prune, Quantize, Step
from edgekp.stage import KEY_FILE
from optimize.__main__ import STEPS, main, model_names, step_key
from tests import tiny
from tests.stages import leave_stage
from train.models.checkpoint import load_checkpoint, save_checkpoint

STEPS_TOML = """
[[optimize]]
method = "prune"
epochs = 1
[[optimize]]
method = "distill"
epochs = 1
[[optimize]]
method = "quantize"
images = 128
"""
PRUNE, DISTILL, QUANTIZE = Prune("prune"), Distill("distill"), Quantize("quantize")
ROOT = Path("runs/tiny/optimize")
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``python -m optimize`` on a baseline that was not trained, with 128 instances."""
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data", train=128)))
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny.toml(STEPS_TOML))
    baseline(tmp_path / "runs/tiny/train", tiny.recipe())
    return lambda *arguments: main(["--recipe", str(recipe), *arguments])


def baseline(folder: Path, recipe: Recipe) -> Path:
    net, spec, contract = tiny.network(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder, net, spec, contract)
    leave_stage(folder)
    return folder


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of the last change and content of every file."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("steps", "names"), [
    ([], []), ([PRUNE, DISTILL, QUANTIZE], ["pruned", "distilled", "int8"]),
    ([PRUNE, DISTILL, PRUNE, PRUNE, DISTILL], ["pruned", "distilled", "pruned-2", "pruned-3", "distilled-2"])])
def test_a_method_that_occurs_again_counts_up(steps: list[Step], names: list[str]) -> None:
    assert model_names(steps) == names


def test_every_step_of_a_recipe_has_a_function_and_the_other_way_round() -> None:
    settings = {get_args(get_type_hints(kind)["method"])[0]: kind for kind in get_args(Step)}
    assert set(STEPS) == set(settings)
    assert model_names([settings[name](name) for name in STEPS])


def test_each_step_leaves_a_checkpoint_and_a_report(run: Run) -> None:
    assert run() == 0
    assert json.loads((ROOT / "models.json").read_text()) == {"models": ["pruned", "distilled", "int8"]}
    found = {name: load_checkpoint(ROOT / name) for name in ("pruned", "distilled", "int8")}
    macs = {name: checkpoint.artifact.model["macs"] for name, checkpoint in found.items()}
    assert macs["pruned"] < load_checkpoint(Path("runs/tiny/train")).artifact.model["macs"]
    assert macs["distilled"] == macs["int8"] == macs["pruned"]
    assert found["int8"].artifact.model["precision"] == "int8"
    for name, fact in (("pruned", "reduction_reached"), ("distilled", "teacher"), ("int8", "thresholds")):
        assert fact in json.loads((ROOT / name / "report.json").read_text())
    assert [name for name in found if (ROOT / name / "history.csv").is_file()] == ["pruned", "distilled"]


def test_a_second_run_does_nothing_and_says_why(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    before = state_of(ROOT)
    capsys.readouterr()
    assert run() == 0
    said = capsys.readouterr().err
    assert said.count("up to date") == 3
    assert "running" not in said
    assert state_of(ROOT) == before


@pytest.mark.slow
def test_a_changed_step_runs_again_with_what_follows_and_says_why(
        run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    pruned = state_of(ROOT / "pruned")
    capsys.readouterr()
    assert run("--set", "optimize.distill.weight=0.25") == 0
    said = capsys.readouterr().err
    assert "optimize pruned: up to date" in said
    assert "optimize distilled: running because settings.distill.weight: 0.5 -> 0.25" in said
    assert "optimize int8: running because inputs.parent: " in said
    assert state_of(ROOT / "pruned") == pruned


@pytest.mark.slow
def test_a_failing_step_leaves_its_old_result_and_no_mixture_to_export(
        run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    before = state_of(ROOT)
    assert run("--set", "optimize.prune.lr=1e30") == 2
    assert "the loss is" in capsys.readouterr().err
    assert state_of(ROOT) == before
    assert run("--set", "optimize.prune.macs_reduction=0.5", "--set", "optimize.distill.lr=1e30") == 2
    assert state_of(ROOT / "distilled") == {name.removeprefix("distilled/"): value for name, value in before.items()
                                            if name.startswith("distilled/")}
    assert not (ROOT / KEY_FILE).exists()  # pruned is new, distilled and int8 are not: export asks for make optimize
    assert run() == 0
    assert (ROOT / KEY_FILE).exists()


def test_a_step_that_left_the_recipe_is_no_longer_listed(run: Run, tmp_path: Path) -> None:
    assert run() == 0
    (tmp_path / "tiny.toml").write_text(tiny.toml(STEPS_TOML[:STEPS_TOML.rindex("[[optimize]]")]))
    assert run() == 0
    assert json.loads((ROOT / "models.json").read_text()) == {"models": ["pruned", "distilled"]}


def test_a_recipe_without_steps_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(tiny.toml())
    assert run() == 2
    assert "the recipe has no [[optimize]] steps; add one, or go on with export" in capsys.readouterr().err
    assert not ROOT.exists()


def test_a_baseline_that_is_not_there_names_the_command(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/tiny/train", KEY_FILE).unlink()
    assert run() == 2
    assert capsys.readouterr().err.strip().endswith("no result there; run: make train")


@pytest.mark.parametrize("second", ["prune", "distill", "quantize"])
def test_steps_after_quantization_are_refused(
        run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], second: str) -> None:
    steps = "".join(f'[[optimize]]\nmethod = "{method}"\n' for method in ("quantize", second))
    (tmp_path / "tiny.toml").write_text(tiny.toml(steps))
    assert run() == 2
    assert f"optimize: '{second}' " in capsys.readouterr().err


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, object]]:
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data")))
    folder = baseline(tmp_path / "float", tiny.recipe())

    def key(step: Step, parent: Path = folder, **train: object) -> dict[str, object]:
        return step_key(tiny.recipe(**train), "step", step, parent, folder).to_json()  # type: ignore[arg-type]
    return key


def test_a_key_changes_with_all_that_changes_the_result(
        keys: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    other = baseline(tmp_path / "other", tiny.recipe(model=replace(tiny.HRNET, options={"width": 8})))
    for step in (PRUNE, DISTILL):
        same = keys(step)
        assert keys(step) == same
        assert keys(replace(step, lr=9e-4)) != same
        assert keys(replace(step, epochs=6)) != same
        assert keys(step, other) != same
        assert keys(step, batch=4) != same
        assert keys(step, seed=1) != same
    assert keys(replace(DISTILL, teacher=str(other))) != keys(DISTILL)
    assert keys(replace(QUANTIZE, observer="minmax")) != keys(QUANTIZE)
    assert keys(QUANTIZE, other) != keys(QUANTIZE)
    tiny.write_coco(tmp_path / "data", "train", 16, seed=7)
    assert keys(QUANTIZE)["inputs"] != same["inputs"]


def test_a_key_does_not_change_with_what_changes_no_result(keys: Callable[..., dict[str, object]]) -> None:
    for step in (PRUNE, DISTILL, QUANTIZE):
        assert keys(step, workers=7, epochs=99, lr=0.5) == keys(step)  # a step has epochs and a rate of its own
    assert keys(QUANTIZE, batch=4, seed=1) == keys(QUANTIZE)


def test_a_teacher_that_is_not_there_is_refused_at_the_door(
        run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--set", "optimize.distill.teacher=nowhere") == 2
    assert "nowhere: no manifest.json" in capsys.readouterr().err


def test_export_is_told_to_run_optimize_first(run: Run, tmp_path: Path) -> None:
    steps = (PRUNE, DISTILL, QUANTIZE)
    with pytest.raises(StageError, match="no result there; run: make optimize"):
        checkpoints_of(tiny.recipe(steps=steps))
    assert run() == 0
    recipe = load_recipe(tmp_path / "tiny.toml")
    assert list(checkpoints_of(recipe)) == ["float", "pruned", "distilled", "int8"]
    with pytest.raises(StageError, match=r"made from something else .*; run: make optimize"):
        checkpoints_of(replace(recipe, optimize=steps[:2]))
    shutil.copy2(ROOT / "pruned/manifest.json", ROOT / "int8")
    with pytest.raises(StageError, match=r"int8/manifest\.json was changed or damaged .*; run: make optimize"):
        checkpoints_of(recipe)


def test_a_new_float_model_is_optimized_before_it_is_exported(
        run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run() == 0
    recipe = load_recipe(tmp_path / "tiny.toml")
    net, spec, contract = tiny.network(tiny.recipe(seed=1))
    tiny.enliven(net)
    shutil.rmtree("runs/tiny/train")
    Path("runs/tiny/train").mkdir()
    save_checkpoint(Path("runs/tiny/train"), net, spec, contract)
    leave_stage(Path("runs/tiny/train"))
    with pytest.raises(StageError, match=r"inputs\.float: .*; run: make optimize"):
        checkpoints_of(recipe)
    with monkeypatch.context() as patch:
        patch.setitem(STEPS, "prune", tiny.nth_call(STEPS["prune"], 1, KeyboardInterrupt))
        assert run() == 130
    with pytest.raises(StageError, match="run: make optimize"):
        checkpoints_of(recipe)
    assert run() == 0
    assert list(checkpoints_of(recipe)) == ["float", "pruned", "distilled", "int8"]


def test_several_processes_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run() == 2
    assert "one process" in capsys.readouterr().err


def test_a_loss_that_does_not_fit_is_refused_before_anything_is_trained(
        run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--set", "train.loss=kl") == 2
    assert "loss" in capsys.readouterr().err
