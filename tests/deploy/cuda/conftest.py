"""Kernels for the tests: compiled once a session, run with several orders of the threads."""

from __future__ import annotations

import ctypes

import pytest

from tests.deploy.cuda.emulated import COMPILER, Emulator, compile_kernels


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("needs g++ to compile the kernels for the host")
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=[1, 2, 3], ids=lambda seed: f"order {seed}")
def gpu(request: pytest.FixtureRequest, library: ctypes.CDLL) -> Emulator:
    return Emulator(library, request.param)
