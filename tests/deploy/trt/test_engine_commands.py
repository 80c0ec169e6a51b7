"""deploy/build_engine.py and eval with the engine: one line for every mistake, and the model's own numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.build_engine import main
from deploy.runtime.gpu import backend as cuda_backend
from deploy.runtime.trt.stamp import ENGINE
from edgekp.artifact import Artifact
from edgekp.sealed_json import unsealed
from eval.__main__ import main as evaluate
from tests import tiny
from tests.deploy.trt.fake_tensorrt import fake_tensorrt
from tests.deploy.trt.host_driver import HostDriver
from tests.manifests import rewrite_manifest


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch, driver: HostDriver) -> HostDriver:
    """A machine with TensorRT 10.3 and a GPU, as far as the commands see."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.3.0"))
    monkeypatch.setattr(cuda_backend, "open_driver", lambda: driver)
    return driver


def test_the_command_builds_and_says_what_in_numbers_with_units(
        artifact: Artifact, jetson: HostDriver, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(artifact.folder), "--max-batch", "4", "--json", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "machine    Orin, compute capability 8.7, TensorRT 10.3.0\n" in out
    assert "precision  fp16 from model_fp16.onnx, strongly typed\n" in out
    assert "batch      1 to 4\n" in out
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == unsealed(json.loads((artifact.folder / "engine.json").read_text()))
    assert f"{len(written['layers'])} layers fp16\n" in out
    assert jetson.is_closed


def test_a_second_call_builds_nothing_and_says_the_same(artifact: Artifact, jetson: HostDriver,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(artifact.folder)]) == 0
    first = capsys.readouterr()
    written = (artifact.folder / ENGINE).stat().st_mtime_ns
    assert main([str(artifact.folder)]) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "up to date" in second.err
    assert (artifact.folder / ENGINE).stat().st_mtime_ns == written


def test_the_driver_is_closed_when_nothing_could_be_built(artifact: Artifact, jetson: HostDriver,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(artifact.folder), "--dla", "0"]) == 2
    assert jetson.is_closed
    assert capsys.readouterr().err.count("\n") == 2  # why it builds, and why it cannot


def test_the_result_that_cannot_be_written_is_said(artifact: Artifact, jetson: HostDriver, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(artifact.folder), "--json", str(tmp_path)]) == 2
    assert "--json wants a file" in capsys.readouterr().err


def run(repository: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The script by its path, from elsewhere, on a machine without TensorRT."""
    blocked = ("import runpy, sys; sys.modules['tensorrt'] = sys.modules['tensorrt_rtx'] = None; "
               "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")
    return subprocess.run([sys.executable, "-c", blocked, str(repository / "deploy/build_engine.py"), *words],
                          cwd=folder, text=True, capture_output=True, check=False)


def test_without_tensorrt_one_line_says_what_to_install(repository: Path, artifact: Artifact, tmp_path: Path) -> None:
    done = run(repository, tmp_path, str(artifact.folder))
    assert done.returncode == 2
    assert "no TensorRT for Python is installed; on a Jetson run: sudo apt install python3-libnvinfer" in done.stderr
    assert done.stderr.count("\n") == 1


def tampered(artifact: Artifact) -> None:
    with artifact.model_path.open("ab") as file:
        file.write(b"x")


def of_tflite(artifact: Artifact) -> None:
    rewrite_manifest(artifact.folder, lambda manifest: manifest.update(kind="tflite"))


@pytest.mark.parametrize(("damage", "words"), [
    (lambda artifact: shutil.rmtree(artifact.folder), "no manifest.json, so no artifact"),
    (tampered, "model.onnx: sha256"),
    (of_tflite, "holds a 'tflite', engines are built from 'onnx'; export it again: python -m deploy.export"),
], ids=["missing", "tampered", "tflite"])
def test_an_artifact_that_cannot_be_built_is_one_line(repository: Path, artifact: Artifact, tmp_path: Path,
                                                      damage: Callable[[Artifact], object], words: str) -> None:
    damage(artifact)
    done = run(repository, tmp_path, str(artifact.folder))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("words", "answer"), [
    ((), "ARTIFACT_DIR"),
    (("x", "--precision", "fp8"), "no precision 'fp8'"),
    (("x", "--max-batch", "0"), "'0', expected a whole number from 1 on"),
    (("x", "--workspace-mb", "-1"), "'-1', expected a whole number from 1 on"),
    (("x", "--dla", "GPU"), "'GPU', expected the number of a DLA core"),
])
def test_wrong_arguments_are_said(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert answer in capsys.readouterr().err


def test_eval_measures_the_engine_and_finds_what_its_file_gives(
        artifact: Artifact, jetson: HostDriver, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tiny.write_coco(tmp_path, "val", 9)

    def predictions(backend: str) -> list[dict[str, object]]:
        path = tmp_path / f"{backend}.json"
        assert evaluate(["run", "--artifact", str(artifact.folder), "--data", str(labels), "--backend", backend,
                         "--predictions", str(path)]) == 0
        return list(json.loads(path.read_text()))

    assert main([str(artifact.folder), "--precision", "fp32", "--max-batch", "4"]) == 0
    assert predictions("trt") == predictions("onnx")
    assert jetson.is_closed


def test_eval_says_how_to_build_an_engine_that_is_missing(artifact: Artifact, jetson: HostDriver, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    labels = tiny.write_coco(tmp_path, "val", 1)
    words = ["run", "--artifact", str(artifact.folder), "--data", str(labels), "--backend", "trt"]
    assert evaluate(words) == 2
    assert f"build it here: python deploy/build_engine.py {artifact.folder}" in capsys.readouterr().err
    assert jetson.is_closed


def test_eval_refuses_an_engine_for_an_artifact_of_another_format(artifact: Artifact,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    of_tflite(artifact)
    assert evaluate(["run", "--artifact", str(artifact.folder), "--backend", "trt"]) == 2
    assert "holds a 'tflite', --backend asks for 'trt'" in capsys.readouterr().err
