"""Exports for a Jetson, made once a session, and copies of them beside which engines are built."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from edgekp.artifact import Artifact, open_artifact
from tests.deploy.trt.host_driver import HostDriver
from train.models.checkpoint import Checkpoint

MakeCheckpoint = Callable[[str, bool], Checkpoint]
MakeArtifact = Callable[[str], Artifact]


@pytest.fixture(scope="session")
def jetson_export(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: MakeCheckpoint) -> Callable[[str], Path]:
    """Folder of the ``float`` or ``int8`` export of a tiny HRNet. Not to be changed."""
    folder = tmp_path_factory.mktemp("jetson")

    @cache
    def make(precision: str) -> Path:
        export_checkpoint(checkpoint_of("hrnet", precision == "int8"), folder / precision, target_named("jetson"))
        return folder / precision
    return make


@pytest.fixture
def copy_of(tmp_path: Path, jetson_export: Callable[[str], Path]) -> MakeArtifact:
    """An artifact beside which an engine may be built."""
    def copy(precision: str) -> Artifact:
        return open_artifact(Path(shutil.copytree(jetson_export(precision), tmp_path / precision)))
    return copy


@pytest.fixture
def artifact(copy_of: MakeArtifact) -> Artifact:
    return copy_of("float")


@pytest.fixture
def driver() -> HostDriver:
    return HostDriver()
