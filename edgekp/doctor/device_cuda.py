"""The GPU's driver, asked without any package, and what compiles for it."""

from __future__ import annotations

import json
import re

from edgekp.doctor.device_line import Line, Machine

NVCC = ("nvcc", "/usr/local/cuda/bin/nvcc")

DRIVER = """
import ctypes, json, sys
cuda = ctypes.CDLL("libcuda.so.1")
def ask(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        sys.exit(f"{name} answers error {code}")
version, device, major, minor = (ctypes.c_int() for _ in range(4))
name = ctypes.create_string_buffer(100)
ask("cuInit", 0)
ask("cuDriverGetVersion", ctypes.byref(version))
ask("cuDeviceGet", ctypes.byref(device), 0)
ask("cuDeviceGetName", name, 100, device)
ask("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
ask("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
print(json.dumps([name.value.decode(), version.value, major.value, minor.value]))
"""
NVRTC = """
import json
from cuda.bindings import nvrtc
_, major, minor = nvrtc.nvrtcVersion()
print(json.dumps([major, minor]))
"""


def cuda_lines(machine: Machine) -> list[Line]:
    return [_driver(machine), _compiler(machine)]


def _driver(machine: Machine) -> Line:
    answer = machine.python(DRIVER)
    if answer.problem:
        return Line("CUDA driver", answer.problem, "missing", _driver_mend(machine))
    name, version, major, minor = json.loads(answer.said)
    return Line("CUDA driver", f"CUDA {version // 1000}.{version % 1000 // 10}, {name}, compute capability "
                               f"{major}.{minor}")


def _driver_mend(machine: Machine) -> str:
    if machine.is_container:
        return "docker run --runtime nvidia ..." if machine.is_jetson else "docker run --gpus all ..."
    return "sudo apt install nvidia-l4t-cuda" if machine.is_jetson else "sudo ubuntu-drivers install"


def _compiler(machine: Machine) -> Line:
    """nvcc, or NVRTC by way of cuda-python: either will do."""
    releases = [re.search(r"release ([\d.]+)", machine.output(nvcc, "--version") or "") for nvcc in NVCC]
    found = next((f"nvcc {release[1]}" for release in releases if release), None)
    answer = machine.python(NVRTC)
    if not answer.problem:
        nvrtc = "NVRTC {}.{}".format(*json.loads(answer.said))
        return Line("CUDA compiler", f"{found}, {nvrtc}" if found else nvrtc)
    if found:
        return Line("CUDA compiler", found)
    mend = "sudo apt install nvidia-cuda-dev" if machine.is_jetson else "sudo apt install nvidia-cuda-toolkit"
    return Line("CUDA compiler", "neither nvcc nor NVRTC", "missing", mend)
