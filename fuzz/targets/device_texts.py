"""What a board's files and programs say to ``edgekp doctor device``; parts stand between form feeds."""

from __future__ import annotations

from pathlib import Path

from edgekp.doctor.device import examine, records, text
from edgekp.doctor.device_line import Answer, Machine
from fuzz.target import Read, Target

FILES = ("etc/nv_tegra_release", "etc/nvpmodel.conf", "proc/meminfo", "proc/device-tree/model",
         "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "sys/class/thermal/thermal_zone0/temp",
         "sys/class/devfreq/17000000.gpu/min_freq", "sys/class/devfreq/17000000.gpu/max_freq")
PROGRAMS = ("nvpmodel", "jetson_clocks", "dpkg-query", "nvcc")
SEED = (b"# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic", b"< POWER_MODEL ID=0 NAME=MAXN >\n",
        b"MemTotal: 7800000 kB\nMemAvailable:  900000 kB\n", b"NVIDIA Jetson Orin Nano\0", b"schedutil", b"45500",
        b"306000000", b"624750000", b"NV Power Mode: 15W\n2\n",
        b"cpu0: Online=1 MinFreq=729600 MaxFreq=1510400\nGPU MinFreq=306000000 MaxFreq=624750000\n", b"6.2",
        b"Cuda compilation tools, release 12.6, V12.6.68")


def reader(folder: Path) -> Read:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)

    def read(data: bytes) -> None:
        parts = [*data.split(b"\x0c"), *[b""] * len(SEED)]
        for name, part in zip(FILES, parts, strict=False):
            (folder / name).write_bytes(part)
        said = {name: part.decode(errors="replace") for name, part in zip(PROGRAMS, parts[len(FILES):], strict=False)}
        machine = Machine(folder, lambda *command: said.get(command[0]), lambda *_: Answer(problem="not asked"))
        lines = examine(machine)
        text(lines)
        records(lines)
    return read


TARGET = Target((b"\x0c".join(SEED), b""), reader,
                (b"\x0c", b"(release), REVISION: ", b"POWER_MODEL", b" ID=", b" NAME=", b"NV Power Mode", b"MinFreq=",
                 b"MaxFreq=", b"GPU", b"cpu0:", b"9" * 400, b"nan", b"inf", b"\n", "٣".encode()))
