"""What lands in the wheel: the contract, whole, and nothing that could collide with other people's packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCES = ("edgekp", "train", "optimize", "deploy", "eval", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, because setuptools leaves its scratch folders in the tree."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout / name)
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                           "--wheel-dir", checkout / "out", checkout], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next((checkout / "out").glob("edgekp-*.whl")))


def test_only_edgekp_is_at_the_top_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    information = {top for top in tops if top.endswith(".dist-info")}
    assert len(information) == 1
    assert tops - information == {"edgekp"}


def test_every_module_of_edgekp_is_in_the_wheel(wheel: zipfile.ZipFile, repository: Path) -> None:
    modules = {file.relative_to(repository).as_posix() for file in (repository / "edgekp").rglob("*.py")}
    assert modules <= set(wheel.namelist())


def test_the_wheel_carries_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    text = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    assert "Apache License" in text["LICENSE"]
    assert "License-Expression: Apache-2.0" in text["METADATA"]
    assert "edgekp = edgekp.__main__:main" in text["entry_points.txt"]
