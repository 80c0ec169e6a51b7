"""Stamps of machines: what is read, what is unknown, what differs, and what has moved too far."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eval.machine_stamp import Machine, Reading, measuring_core, movement, read_machine, take_reading
from tests.eval.latency_numbers import BOARD


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """A root folder with the files of a Jetson, clocks locked."""
    clock = f"sys/devices/system/cpu/cpu{measuring_core()}/cpufreq"
    files = {"proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
             "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
             f"{clock}/scaling_governor": "schedutil\n", f"{clock}/scaling_cur_freq": "1510400\n",
             f"{clock}/scaling_min_freq": "1510400\n", f"{clock}/scaling_max_freq": "1510400\n",
             "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n", "sys/class/thermal/thermal_zone0/temp": "45250\n",
             "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n", "sys/class/thermal/thermal_zone1/temp": "43000\n",
             "sys/class/thermal/thermal_zone2/type": "PMIC-Die\n", "sys/class/thermal/thermal_zone2/temp": "100000\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leaves only these shell scripts on the PATH, by name."""
    def install(**scripts: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, script in scripts.items():
            path = folder / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
    return install


def test_a_jetson_is_read_from_its_files_and_programs(jetson: Path, programs: Callable[..., None]) -> None:
    programs(nvpmodel="echo 'NV Power Mode: 15W'; echo 0",
             nvidia_smi="echo 'Orin (nvgpu), 540.4.0, [N/A]'")
    assert read_machine(jetson) == Machine(
        processor="ARMv8 Processor rev 1 (v8l)", cores=os.cpu_count() or 1,
        system=f"{os.uname().sysname} {os.uname().release}", board="NVIDIA Jetson Orin Nano Developer Kit",
        governor="schedutil", clock_limit_mhz=1510.4, clock_locked=True, power_mode="15W",
        gpu="Orin (nvgpu)", gpu_driver="540.4.0")
    assert take_reading(jetson) == Reading(clock_mhz=1510.4, temperature_c=45.25)  # not the power chip's constant 100


def test_a_clock_that_may_vary_is_not_locked(jetson: Path) -> None:
    (jetson / f"sys/devices/system/cpu/cpu{measuring_core()}/cpufreq/scaling_min_freq").write_text("115200\n")
    assert read_machine(jetson).clock_locked is False


def test_a_workstation_names_its_gpu(tmp_path: Path, programs: Callable[..., None]) -> None:
    programs(nvidia_smi="echo 'NVIDIA L4, 580.65.06, 2040'; echo 'NVIDIA L4, 580.65.06, 2040'")
    machine = read_machine(tmp_path / "nothing")
    assert (machine.gpu, machine.gpu_driver, machine.gpu_clock_limit_mhz) == ("NVIDIA L4", "580.65.06", 2040.0)
    assert machine.power_mode is None


@pytest.mark.parametrize("scripts", [
    {}, {"nvpmodel": "echo unexpected", "nvidia_smi": "echo"}, {"nvidia_smi": "echo '[N/A], [N/A], [N/A]'"},
    {"nvpmodel": "echo 'NV Power Mode: 15W'; exit 1", "nvidia_smi": "echo 'NVIDIA L4, 580.65.06, 2040'; exit 9"}])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, programs: Callable[..., None], scripts: dict[str, str]) -> None:
    programs(**scripts)
    machine = read_machine(tmp_path / "nothing")
    unknown = {name for name, value in machine.spelled().items() if value == "unknown"}
    assert unknown == {"board", "governor", "clock_limit_mhz", "clock_locked", "power_mode", "gpu", "gpu_driver",
                       "gpu_clock_limit_mhz"}
    assert machine.processor
    assert take_reading(tmp_path / "nothing") == Reading()


def test_differences_name_every_field_that_is_unlike() -> None:
    assert BOARD.differences(BOARD) == []
    other = replace(BOARD, power_mode="MAXN", runtime="onnxruntime 1.23.0", clock_locked=False, gpu="Orin")
    assert BOARD.differences(other) == [
        "clock_locked: yes here, no there", "power_mode: 15W here, MAXN there", "gpu: unknown here, Orin there",
        "runtime: onnxruntime 1.24.4 here, onnxruntime 1.23.0 there"]


@pytest.mark.parametrize(("clocks_mhz", "degrees", "word"), [
    ((1500.0, 1510.0, 1480.0), (45.0, 46.0, 50.0), None),
    ((1500.0, 1350.0), (45.0, 55.0), None),  # exactly at both limits
    ((1500.0, 1340.0), (45.0, 46.0), "between 1340 and 1500 MHz"),
    ((1340.0, 1500.0), (45.0, 46.0), "between 1340 and 1500 MHz"),
    ((1500.0, 1500.0), (45.0, 55.5), "between 45 and 56 C"),
    ((None, None), (55.5, 45.0), "between 45 and 56 C"),
    ((None, 1500.0), (None, 45.0), None),
    ((None, None), (None, None), None),
])
def test_movement_beyond_the_limits_is_told(clocks_mhz: tuple[float | None, ...], degrees: tuple[float | None, ...],
                                            word: str | None) -> None:
    found = movement([Reading(clock_mhz=clock, temperature_c=degree)
                      for clock, degree in zip(clocks_mhz, degrees, strict=True)])
    assert found is None if word is None else word in (found or "")
