"""``make gpu-check``: skipped without a GPU, passed on an emulated one, failed where a kernel is wrong."""

from __future__ import annotations

import ctypes
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import checks, correctness, end_to_end, every_codec, networks, sanitizer, speed
from benchmarks.gpu_check.bench import KERNELS
from benchmarks.gpu_check.record import records_of
from deploy.runtime.gpu.driver import CudaDriver
from deploy.runtime.gpu.kernel_cache import KERNELS as KERNEL_NAMES
from deploy.runtime.gpu.replayed_work import RUNS_BEFORE_CAPTURE
from edgekp.codecs import Heatmap, Regression
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.sample import Float
from edgekp.skeletons import COCO17
from tests.deploy.cuda.emulated_gpu import EmulatedGpu
from tests.deploy.cuda.fake_gpu import install_fake_nvcc, install_fake_pycuda, install_no_driver
from tests.deploy.cuda.numpy_engine import NumpyEngine

ALL_CODECS = every_codec.CODECS
SMALL = {"heatmap dark": Heatmap((64, 48)), "regression": Regression((64, 48))}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: ctypes.CDLL) -> EmulatedGpu:
    """An emulated GPU, and checks small enough for it."""
    install_fake_nvcc(monkeypatch, tmp_path)
    for module in (every_codec, correctness):
        monkeypatch.setattr(module, "CODECS", SMALL)
    monkeypatch.setattr(correctness, "FRAME_HW", (90, 130))
    monkeypatch.setattr(correctness, "BOXES", np.array([[30.0, 10, 50, 70]]))
    return install_fake_pycuda(monkeypatch, library)


def gpu_check(folder: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the records by the name of their check."""
    out = folder / "gpu-check.json"
    code = command.main(["--out", str(out), *words])
    return code, {record["check"]: record for record in json.loads(out.read_text())}


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(command, "CHECKS", {name: checks.CHECKS[name] for name in names})


def test_without_a_gpu_every_check_is_skipped_and_says_why(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install_no_driver(monkeypatch)
    code, records = gpu_check(tmp_path)
    assert code == 0
    assert list(records) == [KERNELS, *checks.CHECKS]
    for record in records.values():
        assert record["verdict"] == "skipped"
        assert "no package to drive a GPU with" in record["reason"]
        assert record.keys() == {"check", "value", "unit", "limit", "verdict", "reason", "machine"}
    told = capsys.readouterr()
    assert told.out.count("skipped") == len(records)
    assert f"{len(records)} skipped" in told.err


def test_right_kernels_pass_on_the_gpu_that_is_named(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, "decoder: against numpy", "crops: against the contract")
    code, records = gpu_check(tmp_path)
    assert code == 0
    assert {record["verdict"] for record in records.values()} == {"pass"}
    assert {record["machine"] for record in records.values()} == {"Orin (emulated), sm_87, pycuda 2026.1"}
    assert {f"decoder: {codec}, {number}" for codec in SMALL for number in ("f32", "f16", "i8")} < set(records)
    assert records["decoder: heatmap dark, f16"]["limit"] == "<= 0.001"
    assert device.leaks() == []


def test_scenes_are_decoded_as_numpy_does(device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, "decoder: scenes against numpy")
    code, records = gpu_check(tmp_path)
    assert code == 0
    assert records["decoder: scenes, f32"]["reason"] == "0, 2, 3 people"


@pytest.mark.parametrize("wrong", ["decode_heatmaps_f16", "crop_pictures"])
def test_a_wrong_kernel_fails_the_command(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str,
        capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel does its work, and then a number of what it wrote is moved a little."""
    only(monkeypatch, "decoder: against numpy", "crops: against the contract")
    run = device._run

    def spoil(name: str, *launch: Any) -> None:
        run(name, *launch)
        if name == wrong:
            device.array_at(int(launch[-1][-1]), (1,), np.float32)[0] += 0.5
    monkeypatch.setattr(device, "_run", spoil)
    code, records = gpu_check(tmp_path)
    assert code == 1
    failed = [name for name, record in records.items() if record["verdict"] == "fail"]
    assert failed == ["decoder: heatmap dark, f16" if wrong.startswith("decode") else "crops: largest difference"]
    assert "FAIL" in capsys.readouterr().out


def test_a_kernel_that_writes_nothing_fails(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, "decoder: against numpy")
    monkeypatch.setattr(device, "_run", lambda *launch: None)
    code, records = gpu_check(tmp_path)
    assert code == 1
    assert records["decoder: regression, f32"] | {"value": None, "verdict": "fail", "reason": "found nan"} == records[
        "decoder: regression, f32"]


def test_kernels_that_do_not_compile_are_a_failure_and_no_skip(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_fake_nvcc(monkeypatch, tmp_path / "broken", "sys.exit('error: no such architecture')")
    code, records = gpu_check(tmp_path)
    assert code == 1
    assert records.pop(KERNELS)["verdict"] == "fail"
    assert {record["verdict"] for record in records.values()} == {"skipped"}


def test_a_check_whose_gpu_refuses_is_a_failure_with_its_reason(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, "decoder: against numpy", "crops: against the contract")
    device.refusals["launch"] = "CUDA_ERROR_LAUNCH_FAILED"
    code, records = gpu_check(tmp_path)
    assert code == 1
    reason = records["decoder: against numpy"]["reason"]
    assert "launch failed" in reason.lower().replace("_", " ")  # pycuda says CUDA's words, cuda-python its name
    assert records["crops: mean difference"]["verdict"] == "pass"
    assert device.leaks() == []


def test_the_times_of_the_kernels_are_taken(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What they are says nothing here, but the same bytes go through decoder and copy."""
    for name, value in {"CODEC": SMALL["heatmap dark"], "INPUT_HW": (64, 48), "BATCH": 2, "ROUNDS": 2, "IN_A_GRAPH": 2,
                        "BEYOND_CACHES": 1 << 16, "MOST_US": 1e9, "LEAST_SHARE": 0.0, "FRAME_HW": (90, 130)}.items():
        monkeypatch.setattr(speed, name, value)
    copied = add_copy_kernel(device, monkeypatch)
    only(monkeypatch, "decoder: bandwidth", "decoder: latency", "crops: time")
    code, records = gpu_check(tmp_path)
    assert code == 0
    a_set = 2 * 17 * 16 * 12 * 4
    sets = -(-(1 << 16) // a_set)
    assert set(copied) == {a_set // 2, sets * a_set // 2}
    assert records["decoder: bandwidth, 2 x 17 x 16 x 12"]["unit"] == "GB/s"
    assert records["decoder: one person, on the device"]["value"] > 0
    assert device.leaks() == []


def test_bandwidth_is_skipped_where_the_copy_does_not_compile(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine whose kernels came from the cache of another one."""
    monkeypatch.setattr(speed, "CODEC", SMALL["heatmap dark"])
    monkeypatch.setattr(speed, "BEYOND_CACHES", 1)
    only(monkeypatch, "decoder: bandwidth")
    assert gpu_check(tmp_path)[1][KERNELS]["verdict"] == "pass"
    install_fake_nvcc(monkeypatch, tmp_path, "sys.exit('error: no compiler')")
    code, records = gpu_check(tmp_path)
    assert code == 0
    assert records["decoder: bandwidth"]["verdict"] == "skipped"


def add_copy_kernel(device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """copy.cu on the emulated GPU; the sizes of the copies, bytes."""
    copied: list[int] = []
    run = device._run
    device.signatures["copy_words"] = type(device.signatures["crop_pictures"])(256, ("pointer", "pointer", "int"))

    def copy(name: str, grid: tuple[int, int, int], block: Any, arguments: Any) -> None:
        if name != "copy_words":
            return run(name, grid, block, arguments)
        source, target, words = map(int, arguments)
        assert (grid[0] - 1) * 1024 < words <= grid[0] * 1024
        device.bytes_at(target, 16 * words)[:] = device.bytes_at(source, 16 * words)
        copied.append(16 * words)
        return None
    monkeypatch.setattr(device, "_run", copy)
    return copied


def test_a_frame_is_timed_to_its_keypoints_and_compared_with_the_host(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(end_to_end, "WARM_UP", RUNS_BEFORE_CAPTURE)
    monkeypatch.setattr(end_to_end, "FRAMES", 3)
    contract = Contract(InputSpec((16, 12)), Regression((16, 12)), COCO17)

    def network(inputs: Float) -> dict[str, Float]:
        means = inputs.mean((1, 2, 3))[:, None, None]
        return {"coordinates": np.broadcast_to(0.1 * means, (len(inputs), 17, 2)).astype(np.float32)}

    class OnHost:
        infer = staticmethod(network)

        def close(self) -> None:
            pass

    def timed(engine: Callable[[CudaDriver], NumpyEngine]) -> tuple[int, dict[str, dict[str, Any]]]:
        found = end_to_end.Network("none", contract, engine, OnHost)
        monkeypatch.setattr(command, "CHECKS", {"end to end": lambda *_: end_to_end.end_to_end(found)})
        return gpu_check(tmp_path)

    code, records = timed(lambda _: NumpyEngine(device, (16, 12), ("coordinates",), network))
    assert code == 0
    assert "by CUDA graph" in records["none: frame to keypoints, p50"]["reason"]
    wrong = timed(lambda _: NumpyEngine(device, (16, 12), ("coordinates",), lambda inputs: {
        "coordinates": network(inputs)["coordinates"] + np.float32(0.05)}))
    assert wrong[0] == 1
    assert wrong[1]["none: distance from the host"]["verdict"] == "fail"


def test_what_the_sanitizer_watches_runs_every_kernel(
        device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    every_kind = {name: type(codec)((64, 48)) for name, codec in ALL_CODECS.items() if name != "heatmap none"}
    monkeypatch.setattr(correctness, "CODECS", every_kind)
    runpy.run_module("benchmarks.gpu_check.every_kernel", run_name="__main__")
    assert set(device.launched) == set(KERNEL_NAMES)
    assert capsys.readouterr().out.strip() == sanitizer.EVERY_KERNEL_RAN
    assert device.leaks() == []


def test_the_tiny_network_says_what_its_contract_names(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the tiny network is one of torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    network = networks.tiny_network()
    said = network.on_host().infer(np.zeros((2, 3, *networks.INPUT_HW), np.float32))
    assert tuple(said) == network.contract.outputs
    assert len(network.contract.interpret(said, np.tile(np.eye(2, 3), (2, 1, 1)))) == 2


def test_networks_that_cannot_run_here_are_skipped_with_what_is_missing(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("torch", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    for work, missing in ((networks.tiny_network, "torch is not installed"),
                          (lambda: networks.network_of(None), "no artifact there; name one with --artifact")):
        record, = records_of("end to end", "a GPU", lambda work=work: end_to_end.end_to_end(work()))
        assert record.verdict == "skipped"
        assert missing in str(record.reason)
