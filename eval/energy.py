"""Power of a Jetson while something runs, as its ``tegrastats`` prints it; other machines have no such sensor."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = "tegrastats"
INTERVAL_MS = 100

# NAME NOW/AVERAGE, in mW: without a unit in JetPack 4, with one since. RAM and SWAP look alike, but feed nothing.
RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d")

# What feeds the whole module, by board: one rail at the input, or all rails that no other one of the list feeds.
# Source: NVIDIA Jetson Linux Developer Guide, power monitors of each board.
INPUTS = (
    ("VIN",),  # Thor
    ("VDD_IN",),  # Orin Nano, Orin NX, Xavier NX, TX2, TX1
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin; its VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


def has_sensor() -> bool:
    return shutil.which(PROGRAM) is not None


def board_power_mw(line: str) -> float | None:
    """Power of the whole module now, from one line of ``tegrastats``; None where its rails do not tell."""
    rails = {name: float(now) for name, now in RAIL.findall(line)}
    return next((sum(rails[name] for name in names) for names in INPUTS if rails.keys() >= set(names)), None)


@contextmanager
def watched_power_mw() -> Iterator[list[float]]:
    """Power every 100 ms while the block runs; the list is filled when the block ends, and stays empty elsewhere."""
    readings: list[float] = []
    if not has_sensor():
        yield readings
        return
    with tempfile.TemporaryFile("w+") as log:
        meter = subprocess.Popen([PROGRAM, "--interval", str(INTERVAL_MS)], stdout=log, stderr=subprocess.DEVNULL)
        try:
            yield readings
        finally:
            meter.terminate()
            meter.wait()
        log.seek(0)
        readings += [power for line in log if (power := board_power_mw(line)) is not None]
