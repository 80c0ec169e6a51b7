"""What a latency was measured on, and whether it held still meanwhile. Knows no model; what cannot be read is None."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgekp.machine import ROOT, hottest_c, number_of, output_of, power_mode, text_of

CLOCK_LIMIT = 0.10  # share of the highest clock by which the lowest may lie below it
TEMPERATURE_LIMIT_C = 10.0  # between the coolest and the hottest reading


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware, and how it is set; None where that cannot be read, as in most virtual machines.

    Attributes:
        board: what the device tree calls it, such as a Jetson or a Raspberry Pi.
        governor, clock_limit_mhz, clock_locked: of the core that measures; locked is a lower limit equal to the upper.
        power_mode: of a Jetson, as ``nvpmodel`` names it.
    """

    processor: str
    cores: int
    system: str
    board: str | None = None
    governor: str | None = None
    clock_limit_mhz: float | None = None
    clock_locked: bool | None = None
    power_mode: str | None = None
    gpu: str | None = None
    gpu_driver: str | None = None
    gpu_clock_limit_mhz: float | None = None

    def differences(self, other: Machine) -> list[str]:
        """One line per field that differs, this stamp's value first."""
        mine, theirs = self.spelled(), other.spelled()
        return [f"{name}: {mine[name]} here, {theirs[name]} there" for name in mine if mine[name] != theirs[name]]

    def spelled(self) -> dict[str, str]:
        """Every field as text, as ``--require-stamp`` takes it."""
        return {name: _spelled(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Stamp(Machine):
    """A machine, and what ran the models there: name and version of the runtime, its threads and its core."""

    runtime: str
    threads: int
    pinned_core: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Clock of the measuring core and the hottest temperature, read while the core is at work."""

    clock_mhz: float | None = None
    temperature_c: float | None = None


def read_machine(root: Path = ROOT) -> Machine:
    """This machine; ``root`` is where its /proc and /sys are."""
    folder = _clock_folder(measuring_core(), root)
    lowest, highest = (number_of(folder / f"scaling_{end}_freq") for end in ("min", "max"))
    gpu, driver, gpu_clock_mhz = _first_gpu()
    return Machine(
        processor=processor(root), cores=os.cpu_count() or 1, system=f"{platform.system()} {platform.release()}",
        board=text_of(root / "proc/device-tree/model"), governor=text_of(folder / "scaling_governor"),
        clock_limit_mhz=None if highest is None else highest / 1e3,
        clock_locked=None if highest is None else lowest == highest, power_mode=power_mode(output_of("nvpmodel", "-q")),
        gpu=gpu, gpu_driver=driver, gpu_clock_limit_mhz=gpu_clock_mhz)


def take_reading(root: Path = ROOT) -> Reading:
    """What the sensors of this machine say now."""
    clock_khz = number_of(_clock_folder(measuring_core(), root) / "scaling_cur_freq")
    return Reading(clock_mhz=None if clock_khz is None else clock_khz / 1e3, temperature_c=hottest_c(root))


def movement(readings: Sequence[Reading]) -> str | None:
    """What moved further than the limits allow, for people; None where all held still, or nothing can be read."""
    clocks = [reading.clock_mhz for reading in readings if reading.clock_mhz is not None]
    if clocks and min(clocks) < (1 - CLOCK_LIMIT) * max(clocks):
        return (f"the clock moved between {min(clocks):.0f} and {max(clocks):.0f} MHz, more than {CLOCK_LIMIT:.0%}; "
                "lock it, on a Jetson with: sudo jetson_clocks")
    degrees = [reading.temperature_c for reading in readings if reading.temperature_c is not None]
    if degrees and max(degrees) - min(degrees) > TEMPERATURE_LIMIT_C:
        return (f"the temperature moved between {min(degrees):.0f} and {max(degrees):.0f} C, more than "
                f"{TEMPERATURE_LIMIT_C:.0f}; let the machine warm up or cool down")
    return None


def measuring_core() -> int | None:
    """The last core that this process may use; None where the system cannot pin."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def processor(root: Path = ROOT) -> str:
    """Its name, or at least its architecture."""
    lines = (text_of(root / "proc/cpuinfo") or "").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _first_gpu() -> tuple[str | None, str | None, float | None]:
    """Name, driver and largest clock (MHz), where NVIDIA's tool is installed and finds one."""
    lines = (output_of("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm",
                       "--format=csv,noheader,nounits") or "").splitlines()
    fields = [field.strip() for field in lines[0].split(",")] if lines else []
    if len(fields) != 3:
        return None, None, None
    name, driver, clock = (None if "N/A" in field else field for field in fields)
    return name, driver, float(clock) if clock and clock.isdecimal() else None


def _clock_folder(core: int | None, root: Path) -> Path:
    return root / f"sys/devices/system/cpu/cpu{core or 0}/cpufreq"


def _spelled(value: str | float | bool | None) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"
