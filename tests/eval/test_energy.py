"""Power from tegrastats: lines of every generation of Jetson, and a program that prints them while something runs."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from eval.energy import board_power_mw, watched_power_mw
from eval.latency_worker import energy_of

# One line a board in the forms that NVIDIA documents; JetPack 4 prints no unit, later ones do, 7 may add a third value.
LINES = {
    "Nano, JetPack 4": (
        "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [2%@102,1%@102,0%@102,"
        "0%@102] EMC_FREQ 0% GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C "
        "POM_5V_IN 900/943 POM_5V_GPU 0/0 POM_5V_CPU 123/123", 900.0),
    "TX2, JetPack 4": (
        "RAM 1404/7860MB (lfb 236x4MB) SWAP 0/3930MB (cached 0MB) CPU [0%@345,off,off,0%@345,0%@345] EMC_FREQ 0% "
        "GR3D_FREQ 0% APE 150 PLL@35.5C Tboard@30C GPU@32C thermal@34.1C VDD_SYS_GPU 153/153 VDD_SYS_SOC 306/306 "
        "VDD_4V0_WIFI 0/0 VDD_IN 1649/1700 VDD_SYS_CPU 306/306 VDD_SYS_DDR 173/173", 1649.0),
    "AGX Xavier, JetPack 4": (
        "RAM 1903/15692MB (lfb 3251x4MB) CPU [1%@1190,1%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@32.5C GPU@32C CPU@33.5C "
        "thermal@32.9C PMIC@100C GPU 10/0 CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889", 3123.0),
    "AGX Orin, JetPack 5": (
        "03-17-2024 18:54:10 RAM 10239/62841MB (lfb 442x4MB) SWAP 1/31421MB (cached 0MB) CPU [0%@1728,off] "
        "cpu@37.5C tj@37.5C VDD_GPU_SOC 1592mW/1592mW VDD_CPU_CV -398mW/-398mW VIN_SYS_5V0 2624mW/2624mW NC 0mW/0mW "
        "VDDQ_VDD2_1V8AO 403mW/403mW NC 0mW/0mW", 1592.0 - 398.0 + 2624.0),
    "Orin Nano, JetPack 6": (
        "11-20-2025 10:11:12 RAM 2505/7620MB (lfb 2x4MB) SWAP 0/3810MB (cached 0MB) CPU [2%@729,0%@729] "
        "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] cpu@45.2C gpu@44.1C tj@45.2C VDD_IN 4670mW/4650mW "
        "VDD_CPU_GPU_CV 536mW/530mW VDD_SOC 1454mW/1450mW", 4670.0),
    "Thor, JetPack 7": (
        "07-31-2026 14:45:55 RAM 86905/125772MB (lfb 368x4MB) CPU [12%@972,off] cpu@39.8C VDD_GPU 3561mW/3561mW/3600mW "
        "VDD_CPU_SOC_MSS 7910mW/7910mW/8000mW VIN_SYS_5V0 7620mW/7620mW/7700mW VIN 26686mW/26686mW/27000mW", 26686.0),
}


@pytest.mark.parametrize("board", LINES)
def test_the_power_of_the_whole_module_is_found(board: str) -> None:
    line, power_mw = LINES[board]
    assert board_power_mw(line) == power_mw
    assert board_power_mw(line + "\n") == power_mw


@pytest.mark.parametrize("line", ["", "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102]",
                                  "VDD_CPU_GPU_CV 536mW/530mW VDD_SOC 1454mW/1450mW", "VDD_IN 46"])
def test_a_line_that_does_not_tell_gives_nothing(line: str) -> None:
    assert board_power_mw(line) is None


@pytest.fixture
def tegrastats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name which prints 5 W, then 7 W, and so on; the file that its process id goes to."""
    program, pid = tmp_path / "tegrastats", tmp_path / "pid"
    program.write_text(f"#!/bin/sh\necho $$ > {pid}\nwhile true; do echo 'RAM 1/2MB VDD_IN 5000mW/1mW'; "
                       "echo 'VDD_IN 7000mW/1mW'; echo 'cut off VDD_IN 4'; sleep 0.02; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return pid


@pytest.mark.usefixtures("tegrastats")
def test_energy_of_a_call_is_mean_power_times_its_seconds() -> None:
    called: list[float] = []

    def work() -> None:
        called.append(time.perf_counter())
        time.sleep(0.01)

    energy_mj = energy_of(work, seconds=0.3)
    seconds_a_call = (called[-1] - called[5]) / len(called[6:])  # five calls warm up
    assert energy_mj == pytest.approx(6000 * seconds_a_call, rel=0.15)  # 1 % by an odd reading, the rest for the start


@pytest.mark.parametrize("error", [None, ValueError("the work failed")])
def test_the_meter_ends_with_the_block(tegrastats: Path, error: Exception | None) -> None:
    with suppress(ValueError), watched_power_mw() as readings:
        while not (tegrastats.is_file() and tegrastats.read_text()):
            time.sleep(0.01)
        time.sleep(0.05)
        if error:
            raise error
    assert set(readings) == (set() if error else {5000.0, 7000.0})
    with pytest.raises(ProcessLookupError):
        os.kill(int(tegrastats.read_text()), 0)


def test_without_a_sensor_there_is_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert energy_of(lambda: None, seconds=0.0) is None
