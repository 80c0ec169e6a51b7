"""How a machine is asked: its files in /proc and /sys, and its programs. Judges nothing; what is not there is None."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path("/")


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\0") or None
    except OSError:  # not there, or a sensor that is asleep
        return None


def number_of(path: Path) -> float | None:
    try:
        return float(text_of(path) or "")
    except ValueError:
        return None


def output_of(*command: str) -> str | None:
    """What a program of the machine prints; None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def hottest_c(root: Path = ROOT) -> float | None:
    """The highest temperature that its sensors say now."""
    zones = [number_of(zone / "temp") for zone in (root / "sys/class/thermal").glob("thermal_zone*")
             if not (text_of(zone / "type") or "").startswith("PMIC")]  # a constant 100 degrees on Jetson TX and Nano
    return max((value / 1e3 for value in zones if value is not None), default=None)


def power_mode(nvpmodel: str | None) -> str | None:
    """From the line ``NV Power Mode: 15W`` that a Jetson's ``nvpmodel -q`` prints."""
    return next((line.partition(":")[2].strip() for line in (nvpmodel or "").splitlines()
                 if line.startswith("NV Power Mode")), None)
