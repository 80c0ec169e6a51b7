"""What tests of every stage share: the real data, where it is, and equal conditions. Knows no stage."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; skips where there is none."""
    folder = Path(os.environ.get("EDGEKP_DATA") or REPOSITORY / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set EDGEKP_DATA to its folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded, so that a failure comes back."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the cache of the user who runs it."""
    os.environ.setdefault("EDGEKP_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """Tests run side by side: more threads than cores only wait for each other, and sums change with their number."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded_torch() -> None:
    """The same random weights whichever tests ran before; costs nothing where torch was never imported."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
