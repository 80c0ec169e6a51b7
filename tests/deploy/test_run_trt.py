"""run_trt.py as a whole, without a GPU: the APIs of TensorRT and CUDA by their recorded names, the kernels emulated."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from deploy import run_onnx, run_trt
from deploy.runtime.trt import engine as trt_engine
from edgekp.sample import Float
from tests.deploy.color_people import person_at, picture, write_color_artifact
from tests.deploy.cuda.conftest import library  # noqa: F401  # the emulated kernels, compiled once
from tests.deploy.cuda.emulated_gpu import EmulatedGpu
from tests.deploy.cuda.fake_gpu import (
    install_fake_cuda_python,
    install_fake_nvcc,
    install_fake_pycuda,
    install_no_driver,
)
from tests.deploy.trt.fake_tensorrt import VERSIONS, fake_tensorrt

FRAMES = 4
DRIVERS = {"pycuda": install_fake_pycuda, "cuda-python": install_fake_cuda_python}
Machine = Callable[[str, str], EmulatedGpu]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: ctypes.CDLL) -> Machine:  # noqa: F811
    """Turns this machine into one with a GPU, that version of TensorRT, and that package for CUDA."""

    def make(tensorrt: str, driver: str) -> EmulatedGpu:
        gpu = DRIVERS[driver](monkeypatch, library)
        install_fake_nvcc(monkeypatch, tmp_path / driver)
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(tensorrt, gpu=gpu))
        return gpu

    return make


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_color_artifact(tmp_path / "artifact")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number:04}.png"), picture([person_at(60 + 2 * number, 30, 140)], (200, 240)))
    return folder


def options(artifact: Path, pictures: Path, out: Path) -> list[str]:
    return ["--artifact", str(artifact), "--camera", str(pictures), "--no-window", "--no-smoothing", "--json", str(out)]


def keypoints(path: Path) -> Float:
    """(N, K, 3) of the one person of each frame."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return np.array([line["people"][0]["keypoints"] for line in lines])


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_whole_loop_says_what_the_processor_says(version: str, driver: str, machine: Machine, artifact: Path,
                                                     pictures: Path, tmp_path: Path) -> None:
    gpu = machine(version, driver)
    assert run_trt.main(options(artifact, pictures, tmp_path / "gpu.jsonl")) == 0
    assert gpu.leaks() == []
    assert run_onnx.main(options(artifact, pictures, tmp_path / "host.jsonl")) == 0
    found, expected = keypoints(tmp_path / "gpu.jsonl"), keypoints(tmp_path / "host.jsonl")
    assert len(found) == FRAMES
    # The kernel's crops may differ from OpenCV's by one step of a byte at places, which moves a spot's middle a little.
    # The float16 file, which all but 8.6 take, adds terms of up to 130, in steps of 1/8: a score is off by up to 13 %.
    px, score = (0.1, 0.02) if version.startswith("8.") else (0.5, 0.13)
    np.testing.assert_allclose(found[..., :2], expected[..., :2], atol=px)
    np.testing.assert_allclose(found[..., 2], expected[..., 2], atol=score)


@pytest.mark.slow
def test_the_engine_is_built_once(machine: Machine, artifact: Path, pictures: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    machine("10.3.0", "pycuda")
    run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl"))
    assert "build_engine: " in capsys.readouterr().err
    built = (artifact / "model.engine").stat().st_mtime_ns
    run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl"))
    assert "building" not in capsys.readouterr().err
    assert (artifact / "model.engine").stat().st_mtime_ns == built


@pytest.mark.slow
@pytest.mark.parametrize("change", ["tensorrt", "truncated"])
def test_an_engine_that_does_not_fit_is_built_anew(change: str, machine: Machine, artifact: Path, pictures: Path,
                                                   tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine("10.3.0", "pycuda")
    run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl"))
    capsys.readouterr()
    if change == "tensorrt":
        machine("10.13.3.9", "pycuda")
    else:
        engine = artifact / "model.engine"
        engine.write_bytes(engine.read_bytes()[:-100])
    assert run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl")) == 0
    said = capsys.readouterr().err
    assert "build_engine: building because" in said
    assert ("10.3.0" in said and "10.13.3.9" in said) if change == "tensorrt" else "sha256" in said


def test_one_misspelt_name_of_the_interface_fails(machine: Machine, artifact: Path, pictures: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    machine("10.3.0", "pycuda")
    source = Path(trt_engine.__file__).read_text(encoding="utf-8")
    assert "execute_async_v3" in source
    misspelt = ModuleType("misspelt")
    monkeypatch.setitem(sys.modules, "misspelt", misspelt)
    exec(compile(source.replace("execute_async_v3", "execute_async_v4"), "misspelt", "exec"), vars(misspelt))
    monkeypatch.setattr(trt_engine, "open_engine", misspelt.open_engine)
    assert run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("AttributeError: ")
    assert "execute_async_v4" in said


def test_without_tensorrt_or_a_driver_one_line_says_what_to_install(artifact: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    pictures: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl")) == 2
    assert "python3-libnvinfer" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("10.3.0"))
    install_no_driver(monkeypatch)
    assert run_trt.main(options(artifact, pictures, tmp_path / "out.jsonl")) == 2
    assert "pycuda" in capsys.readouterr().err.splitlines()[-1]
