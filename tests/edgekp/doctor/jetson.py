"""A Jetson as its files and programs describe it, from logs of real boards that people have published."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from edgekp.doctor.device_cuda import DRIVER, NVRTC
from edgekp.doctor.device_line import Answer, Machine
from edgekp.doctor.device_python import OPENCV, VERSION

FILES = {
    "etc/nv_tegra_release": """\
# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 22:54:44 UTC 2025
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia
""",
    "etc/nvpmodel.conf": """\
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
< PM_CONFIG DEFAULT=1 >
""",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/meminfo": "MemTotal:        7803000 kB\nMemFree:          402000 kB\nMemAvailable:    5900000 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
}
POWER = "NVPM WARN: fan mode is not set!\nNV Power Mode: 25W\n1\n"
CLOCKS = """\
SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super
Online CPUs: 0-5
cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1497600 CurrentFreq=1497600 IdleStates: WFI=1 c7=1 
cpu1:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1497600 CurrentFreq=1190400 IdleStates: WFI=1 c7=1 
GPU MinFreq=306000000 MaxFreq=612000000 CurrentFreq=306000000
Active GPU TPCs: 4
"""  # noqa: W291
LOCKED_CLOCKS = """\
cpu0: Online=1 Governor=schedutil MinFreq=1479000 MaxFreq=1479000 CurrentFreq=1479000 IdleStates: WFI=0 c7=0
GPU MinFreq=921600000 MaxFreq=921600000 CurrentFreq=921600000
EMC MinFreq=204000000 MaxFreq=1600000000 CurrentFreq=1600000000 FreqOverride=1
"""
BUILD = """
  Video I/O:
    DC1394:                      YES (2.2.6)
    FFMPEG:                      YES
      avcodec:                   YES (58.134.100)
    GStreamer:                   YES (1.20.3)
    v4l/v4l2:                    YES (linux/videodev2.h)
"""
NVCC = """\
nvcc: NVIDIA (R) Cuda compiler driver
Cuda compilation tools, release 12.6, V12.6.68
Build cuda_12.6.r12.6/compiler.34714021_0
"""
HERE = "/usr/lib/python3/dist-packages"


def absent(module: str) -> Answer:
    return Answer(problem=f"ModuleNotFoundError: No module named '{module}'")


@dataclass
class Jetson:
    """Answers that a test may change before it asks; by default a board with all but a locked clock and a camera."""

    root: Path
    outputs: dict[str, str] = field(default_factory=lambda: {
        "nvpmodel -q": POWER, "dpkg-query -W -f=${Version} nvidia-jetpack": "6.2.1+b38",
        "/usr/local/cuda/bin/nvcc --version": NVCC, "id -Gn": "user adm sudo video"})
    modules: dict[str, Answer] = field(default_factory=lambda: {
        "numpy": Answer(json.dumps(["1.21.5", f"{HERE}/numpy/__init__.py"])),
        "tensorrt": Answer(json.dumps(["10.3.0", "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py"])),
        "pycuda.driver": Answer(json.dumps(["2026.1", "/home/user/.local/lib/python3.10/pycuda/driver.py"])),
        "cuda.bindings.driver": absent("cuda"), "onnxruntime": absent("onnxruntime"),
        "ai_edge_litert.interpreter": absent("ai_edge_litert")})
    opencv: Answer = field(default_factory=lambda: Answer(json.dumps(["4.5.4", f"{HERE}/cv2.so", BUILD])))
    driver: Answer = field(default_factory=lambda: Answer(json.dumps(["Orin", 12060, 8, 7])))
    free: int = 50_000_000_000

    def machine(self) -> Machine:
        return Machine(self.root, lambda *command: self.outputs.get(" ".join(command)), self._python,
                       lambda _: self.free, self.root / "usr")

    def _python(self, code: str, *arguments: str) -> Answer:
        if code == VERSION:
            return self.modules[arguments[0]]
        return {OPENCV: self.opencv, DRIVER: self.driver, NVRTC: absent("cuda")}[code]


def jetson(root: Path) -> Jetson:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Jetson(root)
