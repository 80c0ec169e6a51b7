"""Folders of tiny runs, and whether two are the same. Knows files, not what a stage does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.faults.warm_commands import ROOT
from edgekp.atomic import sha256

RUN = Path("runs/tiny")
RECIPE = """
[data]
skeleton = "coco17"
[data.drawn]
subject = "people"
train = {instances}
val = 8
[input]
input_hw = [64, 64]
[codec]
name = "heatmap"
[model]
backbone = "hrnet_lite"
options = {{ width = 8, branches = 2, blocks = 1, modules = 1 }}
[train]
epochs = {epochs}
batch = 8
warmup_steps = 2
precision = "fp32"
validate_every = 1
workers = 0
{steps}
"""


def write_recipe(folder: Path, instances: int, epochs: int, steps: str = "") -> Path:
    """A recipe of a network of 10,000 parameters and drawn people; its run folder is ``RUN``."""
    path = folder / f"{RUN.name}.toml"
    path.write_text(RECIPE.format(instances=instances, epochs=epochs, steps=steps))
    return path


def really_run(folder: Path, module: str, *arguments: str) -> None:
    """``python -m module arguments`` as a user starts it, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=folder, env=environment, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each file by its path in the folder; empty where there is none."""
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def differences(found: dict[str, str], expected: dict[str, str]) -> str:
    """The files that differ, by name; empty where none does."""
    return ", ".join(sorted({name for name, _ in found.items() ^ expected.items()}))


def names(folder: Path) -> set[str]:
    """All that lies in a folder, scratch that somebody forgot included."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
