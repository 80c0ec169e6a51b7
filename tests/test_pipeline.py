"""The whole pipeline on drawn people: what lands where, what runs again and why, and what a failure leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.export.__main__ import main as export
from edgekp.artifact import verify_artifact
from optimize.__main__ import main as optimize
from train.__main__ import main as train
from train.models.checkpoint import load_checkpoint

RECIPE = """
[data]
skeleton = "coco17"
[data.drawn]
subject = "people"
train = 128
val = 8
[input]
input_hw = [64, 64]
[codec]
name = "heatmap"
[model]
backbone = "hrnet_lite"
options = { width = 16, branches = 2, blocks = 1, modules = 1 }
[train]
epochs = 2
batch = 32
precision = "fp32"
workers = 0
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
RUN = Path("runs/tiny")
EVERY_FOLDER = ("data", "train", "optimize/pruned", "optimize/distilled", "optimize/int8", "optimize", "export/cpu",
                "export/jetson")


def run_all(*arguments: str) -> list[int]:
    shared = ["--recipe", "tiny.toml", *arguments]
    return [train(shared), optimize(shared), export([*shared, "--target", "cpu"]),
            export([*shared, "--target", "jetson"])]


def files() -> dict[str, tuple[int, bytes]]:
    return {str(path.relative_to(RUN)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(RUN.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_the_pipeline_from_a_recipe_to_artifacts(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(RECIPE)

    assert run_all() == [0, 0, 0, 0]
    for folder in EVERY_FOLDER:
        assert (RUN / folder / "stage.json").is_file(), folder
    for folder in ("train", "optimize/pruned", "optimize/distilled", "optimize/int8"):
        load_checkpoint(RUN / folder)
        verify_artifact(RUN / folder)
    for target in ("cpu", "jetson"):
        names = json.loads((RUN / "export" / target / "models.json").read_text())["models"]
        assert names == ["float", "pruned", "distilled", "int8"]
        for name in ("", *names):
            verify_artifact(RUN / "export" / target / name)
    assert len(json.loads((RUN / "train/history.json").read_text())) == 2
    assert not [path for path in RUN.rglob("*") if path.name.startswith(".") or "partial" in path.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "tiny.toml"]
    first = files()

    capsys.readouterr()
    assert run_all() == [0, 0, 0, 0]
    said = capsys.readouterr()
    assert said.err.count("up to date") == 7  # data, train, three steps, two targets
    assert "running" not in said.err
    assert files() == first

    assert run_all("--set", "optimize.prune.macs_reduction=0.55") == [0, 0, 0, 0]
    said = capsys.readouterr()
    assert "train: up to date" in said.err
    assert "optimize pruned: running because settings.prune.macs_reduction: 0.3 -> 0.55" in said.err
    assert "optimize int8: running because inputs.parent: " in said.err
    assert "export: running because inputs.distilled: " in said.err
    second = files()
    assert {name: value for name, value in first.items() if name.startswith(("data/", "train/"))}.items() \
        <= second.items()
    assert second["optimize/int8/model.safetensors"] != first["optimize/int8/model.safetensors"]

    assert train(["--recipe", "tiny.toml", "--set", "train.lr=1e30"]) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("python -m train: train: the loss is ")
    assert "Traceback" not in said.err
    assert files() == second
