"""Exports say what their networks say, and an export that does not is never published."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from deploy.export.__main__ import checkpoints_of, main
from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from deploy.export.verify import BOXES_XYWH, verify_export
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact, verify_artifact
from edgekp.atomic import sha256
from edgekp.errors import ArtifactError
from edgekp.recipe_file import load_recipe
from edgekp.stage_results import optimized_key
from tests import tiny
from tests.manifests import accept_files
from tests.stages import leave_stage
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

MakeCheckpoint = Callable[[str, bool], Checkpoint]
MakeExport = Callable[[str, str], Path]
NETWORKS = ["hrnet", "mobilefacenet"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_float_onnx_equals_its_network_at_every_batch_size(
        name: str, batch: int, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    checkpoint = checkpoint_of(name, False)
    x = np.random.default_rng(batch).normal(size=(batch, 3, *checkpoint.spec.input_hw)).astype(np.float32)
    with torch.no_grad():
        expected = checkpoint.net(torch.from_numpy(x))[0].numpy()
    found, = open_session(open_artifact(export_of(name, "float"))).infer(x).values()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("spelling", ["float", "int8", "uint8"])
def test_an_export_is_a_whole_artifact(
        name: str, spelling: str, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    artifact = verify_artifact(export_of(name, spelling))
    checkpoint = checkpoint_of(name, spelling != "float")
    assert artifact.contract == checkpoint.contract
    assert artifact.kind == "onnx"
    assert set(artifact.files) == {"model.onnx", "golden.npz"} | ({"model_fp16.onnx"} if spelling == "int8" else set())
    assert artifact.model["spelling"] == (None if spelling == "float" else spelling)
    for fact in ("precision", "parameters", "macs"):
        assert artifact.model[fact] == checkpoint.artifact.model[fact]
    onnx.checker.check_model(onnx.load(artifact.model_path), full_check=True)
    assert not list(artifact.folder.glob("*.data")), "weights belong into the file whose digest is checked"


@pytest.mark.parametrize("spelling", ["int8", "uint8"])
def test_an_integer_model_takes_less_than_half_the_bytes(spelling: str, export_of: MakeExport) -> None:
    sizes = {kind: open_artifact(export_of("hrnet", kind)).size_bytes for kind in ("float", spelling)}
    assert sizes[spelling] < 0.5 * sizes["float"]


def copy_with_other_weights(folder: Path, to: Path, factor: float) -> Path:
    """The artifact with the weights of every convolution scaled, and digests that fit."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    model = onnx.load(to / "model.onnx")
    for weight in model.graph.initializer:
        if len(weight.dims) == 4:
            values = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), weight.name))
    onnx.save(model, to / "model.onnx")
    accept_files(to)
    return to


@pytest.mark.parametrize(("spelling", "factor"), [("float", 0.9), ("float", 1.001), ("uint8", 0.0), ("int8", -1.0)])
def test_a_file_with_other_weights_is_refused(tmp_path: Path, spelling: str, factor: float,
                                              checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    net = checkpoint_of("hrnet", spelling != "float").net
    sound = export_of("hrnet", spelling)
    verify_export(sound, net)
    with pytest.raises(ArtifactError, match="the exported file differs from the network by"):
        verify_export(copy_with_other_weights(sound, tmp_path / "changed", factor), net)


def test_rounding_that_half_a_step_of_the_input_explains_raises_no_alarm(
        monkeypatch: pytest.MonkeyPatch, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    folder, net = export_of("hrnet", "uint8"), checkpoint_of("hrnet", True).net
    monkeypatch.setattr("deploy.export.verify.INT8_MEAN_ATOL", 0.0)
    assert verify_export(folder, net)["mean_difference"] > 0
    monkeypatch.setattr("deploy.export.verify.STEPS", 1e6)  # no step of the input to speak of
    with pytest.raises(ArtifactError, match="differs from the network by"):
        verify_export(folder, net)


def test_a_file_that_says_nan_is_refused(tmp_path: Path, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    changed = copy_with_other_weights(export_of("hrnet", "float"), tmp_path / "changed", float("nan"))
    found, = open_session(open_artifact(changed)).infer(np.zeros((1, 3, 64, 64))).values()
    assert np.isnan(found).any()
    with pytest.raises(ArtifactError, match="differs from the network by nan"):
        verify_export(changed, checkpoint_of("hrnet", False).net)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("spelling", ["float", "int8", "uint8"])
def test_an_export_says_how_far_it_is_from_its_network(
        name: str, spelling: str, checkpoint_of: MakeCheckpoint, export_of: MakeExport) -> None:
    found = verify_export(export_of(name, spelling), checkpoint_of(name, spelling != "float").net)
    assert 0 <= found["mean_difference"] <= found["largest_difference"]
    assert found["largest_difference"] < (1e-5 if spelling == "float" else 0.05)
    assert len(BOXES_XYWH) > 1  # the batch size is free


STEPS = """
[[optimize]]
method = "prune"
epochs = 1
[[optimize]]
method = "quantize"
images = 128
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_of: MakeCheckpoint) -> Callable[..., int]:
    """``python -m deploy.export`` over a run whose stages left three models."""
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "tiny.toml"
    text = tiny.toml(STEPS).replace("width = 8, branches = 2", "width = 16, branches = 3")
    recipe.write_text(text)
    for place, integer in (("train", False), ("optimize/pruned", False), ("optimize/int8", True)):
        checkpoint = checkpoint_of("hrnet", integer)
        folder = tmp_path / "runs/tiny" / place
        folder.mkdir(parents=True)
        save_checkpoint(folder, checkpoint.net, checkpoint.spec, checkpoint.contract)
        leave_stage(folder)
    (tmp_path / "runs/tiny/optimize/models.json").write_text('{"models": ["pruned", "int8"]}')
    leave_optimized(recipe)
    return lambda *arguments: main(["--recipe", str(recipe), *arguments])


def leave_optimized(recipe: Path) -> None:
    """What says that the optimized models are those of the float model and the recipe that are there now."""
    folder = Path("runs/tiny/optimize")
    files = ["models.json", *(f"{name}/manifest.json" for name in ("pruned", "int8"))]
    leave_stage(folder, **optimized_key(load_recipe(recipe)).to_json(),
                files={name: sha256(folder / name) for name in files})


def replace_checkpoint(folder: Path) -> None:
    """One with other weights in its place, as a stage that runs again leaves it."""
    found = load_checkpoint(folder)
    with torch.no_grad():
        next(found.net.parameters()).add_(0.5)
    shutil.rmtree(folder)
    folder.mkdir()
    save_checkpoint(folder, found.net, found.spec, found.contract)
    leave_stage(folder)


@pytest.mark.parametrize(("target", "spelling"), [("cpu", "uint8"), ("jetson", "int8")])
def test_the_final_model_lies_on_top_and_the_way_to_it_below(
        run: Callable[..., int], target: str, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--target", target) == 0
    folder = Path("runs/tiny/export") / target
    assert json.loads((folder / "models.json").read_text()) == {"models": ["float", "pruned", "int8"]}
    top = verify_artifact(folder)
    assert top.model["spelling"] == spelling
    assert top.model["target"] == target
    assert top.files["model.onnx"] == verify_artifact(folder / "int8").files["model.onnx"]
    for name in ("float", "pruned"):
        assert verify_artifact(folder / name).model["precision"] == "fp32"
    assert "export: next: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_second_export_does_nothing_and_a_new_checkpoint_is_exported(
        run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    changed = {path: path.stat().st_mtime_ns for path in Path("runs/tiny/export").rglob("*")}
    assert run() == 0
    assert "export: up to date (runs/tiny/export/cpu)" in capsys.readouterr().err
    assert changed == {path: path.stat().st_mtime_ns for path in Path("runs/tiny/export").rglob("*")}
    replace_checkpoint(Path("runs/tiny/optimize/pruned"))
    leave_optimized(tmp_path / "tiny.toml")
    assert run() == 0
    assert "export: running because inputs.pruned: " in capsys.readouterr().err


def test_a_recipe_without_steps_exports_the_float_model(run: Callable[..., int], tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(recipe.read_text().replace(STEPS, ""))
    assert run() == 0
    assert verify_artifact(Path("runs/tiny/export/cpu")).model["precision"] == "fp32"
    assert json.loads(Path("runs/tiny/export/cpu/models.json").read_text()) == {"models": ["float"]}


@pytest.mark.slow
def test_a_failing_export_leaves_the_old_one(
        run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    folder = Path("runs/tiny/export")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("deploy.export.verify.INT8_MEAN_ATOL", -1.0)
    monkeypatch.setattr("deploy.export.verify.restlessness", lambda *_: -1.0)
    assert run("--force") == 2
    assert "differs from the network" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_is_not_exported(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("runs/tiny/optimize/int8/model.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    assert run() == 2
    assert "sha256" in capsys.readouterr().err
    assert not Path("runs/tiny/export/cpu").exists()


def test_a_new_float_model_is_not_exported_beside_the_int8_of_an_old_one(
        run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace_checkpoint(Path("runs/tiny/train"))
    assert run() == 2
    assert re.fullmatch(r"python -m deploy.export: runs/tiny/optimize: made from something else than is there now "
                        r"\(found -> expected: inputs.float: \S+ -> \S+\); run: make optimize",
                        capsys.readouterr().err.strip())
    assert not Path("runs/tiny/export").exists()
    leave_optimized(tmp_path / "tiny.toml")
    assert checkpoints_of(load_recipe(tmp_path / "tiny.toml")).keys() == {"float", "pruned", "int8"}


def test_models_of_other_steps_or_of_another_optimization_are_not_exported(
        run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--set", "optimize.prune.macs_reduction=0.5") == 2
    said = capsys.readouterr().err.strip()
    assert re.search(r"settings\.step 1\.macs_reduction: \S+ -> 0\.5\); run: make optimize$", said)
    replace_checkpoint(Path("runs/tiny/optimize/int8"))
    assert run() == 2
    assert "int8/manifest.json was changed" in capsys.readouterr().err
    assert not Path("runs/tiny/export").exists()


def test_a_list_of_models_that_lists_none_is_refused(
        run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("{}", "[]", '{"models": []}', '{"models": [1]}'):
        Path("runs/tiny/optimize/models.json").write_text(content)
        leave_optimized(tmp_path / "tiny.toml")
        assert run() == 2
        assert capsys.readouterr().err.strip().endswith("optimize/models.json: lists no models; run: make optimize")


def test_an_untrained_run_names_the_command(tmp_path: Path, run: Callable[..., int],
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--set", "name=other") == 2
    assert capsys.readouterr().err.strip().endswith("no result there; run: make train")


def test_an_unknown_target_is_refused_with_the_nearest(run: Callable[..., int],
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--target", "jetsn") == 2
    assert "no target 'jetsn'; did you mean 'jetson'?" in capsys.readouterr().err


@pytest.mark.parametrize(("target", "codec", "message"), [
    ("tflite", "heatmap", "target 'tflite' has no ONNX file to embed it in"),
    ("cpu", "udp", "UDP is decoded outside the graph alone")])
def test_what_cannot_be_embedded_is_refused_before_any_export(
        run: Callable[..., int], target: str, codec: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", 'export.embed=["preprocess", "decode"]', "--set", f"codec.name={codec}")
    assert run("--target", target, *settings) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs/tiny/export").exists()


def test_embedded_files_come_with_every_model_of_a_run(run: Callable[..., int], tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(recipe.read_text().replace(STEPS, ""))
    assert run("--set", 'export.embed=["preprocess", "decode"]') == 0
    for folder in (Path("runs/tiny/export/cpu"), Path("runs/tiny/export/cpu/float")):
        assert "model_embedded.onnx" in verify_artifact(folder).files


def test_a_network_narrower_than_its_recipe_exports_too(tmp_path: Path) -> None:
    """Batch size, opset and names are those of the contract for a network without a recipe's help."""
    net, spec, contract = tiny.network(tiny.recipe((96, 64)))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_checkpoint(folder, net, spec, contract)
    export_checkpoint(load_checkpoint(folder), tmp_path / "out", target_named("cpu"), 17)
    model = onnx.load(tmp_path / "out/model.onnx")
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 96, 64]
    assert [output.name for output in model.graph.output] == ["heatmaps"]
    assert model.opset_import[0].version == 17
