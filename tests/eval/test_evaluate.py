"""The eval stage and the gate of a run, on three toy models that an export stage might have left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekp.atomic import sha256
from edgekp.recipe import Recipe
from edgekp.recipe_file import load_recipe
from edgekp.skeletons import skeleton_named
from eval import recipe_gate
from eval.__main__ import main
from eval.evaluate import evaluate_run
from eval.recipe_gate import gate_run
from eval.verdict import Verdict
from tests.stages import accept_changes, leave_stage

RECIPE = """
name = "toy"
[data]
skeleton = "{skeleton}"
[[data.train]]
labels = "data_{skeleton}/val.json"
[[data.val]]
labels = "data_{skeleton}/val.json"
[input]
input_hw = [32, 32]
padding = 1.0
[codec]
name = "regression"
[model]
backbone = "toy"
[train]
epochs = 1
[eval]
metric = "{metric}"
"""
OFFSETS_PX = {"float": 0.1, "pruned": 0.1, "int8": 3.0}
METRICS = {"coco17": "oks_ap", "ibug68": "nme"}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_artifact: Callable[..., Path],
             toy_data: Callable[..., Path]) -> Callable[..., Recipe]:
    """Stands in a folder with data, a recipe and what the export stage leaves."""
    def prepare(skeleton: str = "coco17", offsets_px: dict[str, float] | None = None) -> Recipe:
        offsets = OFFSETS_PX if offsets_px is None else offsets_px
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
        toy_data(skeleton)
        folder = tmp_path / "runs/toy/export/cpu"
        for name, offset_px in offsets.items():
            toy_artifact(name, offset_px, skeleton, into=folder)
        (folder / "models.json").write_text(json.dumps({"models": list(offsets)}))
        leave_stage(folder, inputs=dict.fromkeys(offsets, "of a checkpoint elsewhere"))
        (tmp_path / "toy.toml").write_text(RECIPE.format(skeleton=skeleton, metric=METRICS[skeleton]))
        return load_recipe(tmp_path / "toy.toml")
    return prepare


@pytest.fixture
def no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latency gate has tests of its own."""
    monkeypatch.setattr(recipe_gate, "judge_latency", lambda baseline, candidate, limit, subject: Verdict(
        "latency", subject, "pass", "2.00 -> 1.00 ms", "2.00x faster", {"ratio": 0.5}))


@pytest.mark.parametrize(("skeleton", "expected"), [
    ("coco17", {"AP", "AP50", "AR", "mean_oks", "pck@0.2"}),
    ("ibug68", {"nme", "failure_rate@0.08", "failure_rate@0.10", "auc@0.08", "nme_interpupil", "pck@0.2"})])
def test_every_model_is_measured_on_every_set_and_printed(exported: Callable[..., Recipe], skeleton: str,
                                                          expected: set[str],
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    exported(skeleton)
    assert main(["run", "--recipe", "toy.toml", "--target", "cpu"]) == 0
    records = json.loads(Path("runs/toy/eval/metrics.json").read_text())
    assert [(record["model"], record["data"]) for record in records] == [
        (name, f"data_{skeleton}/val") for name in OFFSETS_PX]
    for record in records:
        assert expected <= record["metrics"].keys()
        assert set(record["latency_ms"]) == {"p50", "p90", "p99"}
        assert record["instances"] == record["predicted"] == 24
        assert record["size_bytes"] > 0 < record["parameters"]
        assert record["interval"]["lower_95"] <= record["interval"]["value"] <= record["interval"]["upper_95"]
        assert record["keypoints"].keys() == set(skeleton_named(skeleton).keypoints)
    assert records[0]["metrics"] == records[1]["metrics"] != records[2]["metrics"]
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == [f"data_{skeleton}/val", "model", *OFFSETS_PX]
    assert table[2].endswith("1.00x")


def test_stored_predictions_name_their_annotation_and_box(exported: Callable[..., Recipe]) -> None:
    folder = evaluate_run(exported(), "cpu")
    for name in OFFSETS_PX:
        results = json.loads((folder / f"predictions/{name}__data_coco17_val.json").read_text())
        assert sorted(result["annotation_id"] for result in results) == list(range(1, 25))
        assert all(result["bbox"] == [12.0, 10.0, 40.0, 40.0] and len(result["keypoints"]) == 51 for result in results)


def test_an_unchanged_run_is_not_measured_again(exported: Callable[..., Recipe],
                                                capsys: pytest.CaptureFixture[str]) -> None:
    recipe = exported()
    before = (evaluate_run(recipe, "cpu") / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    assert (evaluate_run(recipe, "cpu") / "metrics.json").stat().st_mtime_ns == before
    assert "eval: up to date" in capsys.readouterr().err
    labels = Path("data_coco17/val.json")
    labels.write_text(labels.read_text() + "\n")
    assert (evaluate_run(recipe, "cpu") / "metrics.json").stat().st_mtime_ns != before
    assert "running because inputs.data data_coco17/val" in capsys.readouterr().err
    Path("data_coco17/3.png").write_bytes(Path("data_coco17/4.png").read_bytes())
    evaluate_run(recipe, "cpu")
    assert "running because inputs.images data_coco17/val" in capsys.readouterr().err


@pytest.mark.usefixtures("no_latency")
def test_one_damaged_model_fails_the_run(exported: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]) -> None:
    exported()
    assert main(["gate", "--recipe", "toy.toml", "--json", "copy.json"]) == 1
    gates = json.loads(Path("runs/toy/gate/gate.json").read_text())["gates"]
    assert [(gate["subject"], gate["outcome"]) for gate in gates] == [
        ("pruned on data_coco17/val", "pass"), ("int8 on data_coco17/val", "fail"), ("int8", "pass")]
    assert "| FAIL |" in Path("runs/toy/gate/gate.md").read_text()
    assert json.loads(Path("copy.json").read_text())["gates"] == gates
    assert capsys.readouterr().out.splitlines()[-1] == "verdict: fail"


@pytest.mark.usefixtures("no_latency")
def test_equal_models_pass_and_the_verdict_is_kept(exported: Callable[..., Recipe],
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    recipe = exported(offsets_px={"float": 0.1, "int8": 0.1})
    first = gate_run(recipe, "cpu")
    assert [verdict.outcome for verdict in first] == ["pass", "pass"]
    capsys.readouterr()
    assert gate_run(recipe, "cpu") == first
    assert "gate: up to date" in capsys.readouterr().err


@pytest.mark.usefixtures("no_latency")
def test_a_model_on_the_way_is_judged_and_does_not_bind(exported: Callable[..., Recipe],
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    exported(offsets_px={"float": 0.1, "pruned": 9.0, "int8": 0.1})
    assert main(["gate", "--recipe", "toy.toml", "--junit", "gate.xml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("gate")] == ["(fail)", "pass", "pass"]
    assert 'failures="0" skipped="1"' in Path("gate.xml").read_text()


@pytest.mark.usefixtures("no_latency")
def test_a_model_that_says_nan_is_measured_as_nothing_and_fails(exported: Callable[..., Recipe],
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    exported("ibug68", {"float": 0.1, "int8": float("nan")})
    assert main(["gate", "--recipe", "toy.toml"]) == 1
    assert "no finite prediction for 24 of 24 instances" in capsys.readouterr().out
    records = json.loads(Path("runs/toy/eval/metrics.json").read_text())
    assert (records[1]["metrics"], records[1]["predicted"]) == ({}, 0)
    assert main(["run", "--recipe", "toy.toml"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[1] == "-"


@pytest.mark.parametrize(("checkpoint", "model"), [("train", "float"), ("optimize/int8", "int8")])
def test_artifacts_of_an_earlier_checkpoint_are_not_measured(
        exported: Callable[..., Recipe], checkpoint: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    exported()
    manifest, artifacts = Path("runs/toy", checkpoint, "manifest.json"), Path("runs/toy/export/cpu")
    manifest.parent.mkdir(parents=True)
    manifest.write_text("of a new training")
    assert main(["run", "--recipe", "toy.toml"]) == 2
    assert capsys.readouterr().err.strip() == (
        f"python -m eval: runs/toy/export/cpu/{model}: exported from another checkpoint than that in "
        f"runs/toy/{checkpoint}; run: make export TARGET=cpu")
    leave_stage(artifacts, inputs=dict.fromkeys(OFFSETS_PX, sha256(manifest)))
    assert main(["run", "--recipe", "toy.toml"]) == 0


def test_what_is_missing_names_the_command_that_makes_it(exported: Callable[..., Recipe],
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    exported()
    assert main(["run", "--recipe", "toy.toml", "--target", "jetson"]) == 2
    assert "make export TARGET=jetson" in capsys.readouterr().err
    Path("runs/toy/export/cpu/models.json").write_text("{}")
    accept_changes(Path("runs/toy/export/cpu"))
    assert main(["run", "--recipe", "toy.toml"]) == 2
    assert "lists no models" in capsys.readouterr().err
    assert not Path("runs/toy/eval").exists()
