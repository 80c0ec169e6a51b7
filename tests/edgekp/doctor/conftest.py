"""The healthy set, drawn once; each test gets a copy to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edgekp.doctor.healthy import Case, copy_of, healthy


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return healthy(tmp_path_factory.mktemp("healthy"))


@pytest.fixture
def case(drawn: Case, tmp_path: Path) -> Case:
    return copy_of(drawn, tmp_path)
