"""The kernels under NVIDIA's compute-sanitizer: no access out of bounds, no race between the threads of a block."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_check.record import Found, Skip
from edgekp.errors import DeviceError

TOOL = "compute-sanitizer"
ELSEWHERE = Path("/usr/local/cuda/bin")  # where it lies when it is not on the PATH
SUMMARY = re.compile(r"(?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)")
LONGEST_S = 300
EVERY_KERNEL_RAN = "every kernel ran"


def sanitized(tool: str) -> list[Found]:
    """What ``memcheck`` or ``racecheck`` says of a run of every kernel."""
    program = shutil.which(TOOL) or shutil.which(TOOL, path=str(ELSEWHERE))
    if program is None:
        raise Skip(f"{TOOL} is not installed; it comes with the CUDA toolkit")
    command = [program, "--tool", tool, sys.executable, "-m", "benchmarks.gpu_check.every_kernel"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{TOOL} --tool {tool}: not done after {LONGEST_S} s") from None
    return [Found(f"sanitizer: {tool}", counted(done.stdout + done.stderr), "findings", at_most=0)]


def counted(told: str) -> int:
    """The number of findings in what the tool prints."""
    if "Device not supported" in told:
        raise Skip(f"{TOOL} does not support this device or its virtual machine")
    found = SUMMARY.search(told)
    if found is None or EVERY_KERNEL_RAN not in told:
        raise DeviceError(f"{TOOL} did not finish: {' '.join(told.split()[-40:])}")
    return int(found[1] or found[2])
