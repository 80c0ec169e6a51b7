"""Put a GPU that is none under a program: pycuda or cuda-python, libcuda and nvcc, for as long as a test runs.

    gpu = install_fake_pycuda(monkeypatch, library)       # library: the fixture of tests/deploy/cuda/conftest.py
    install_fake_nvcc(monkeypatch, tmp_path)              # and a kernel cache of its own
    driver = open_driver()
    ...
    gpu.queue(stream.handle, work)                        # what a fake engine adds to a stream
    gpu.array_at(address, shape, dtype)                   # the device memory that it reads and writes
    driver.close()
    assert not gpu.leaks()
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.deploy.cuda.emulated_gpu import CUBIN, EmulatedGpu
from tests.deploy.cuda.fake_cuda_python import cuda_python_modules
from tests.deploy.cuda.fake_libcuda import FakeLibcuda
from tests.deploy.cuda.fake_pycuda import pycuda_modules

BLOCKED: dict[str, ModuleType | None] = {"pycuda": None, "pycuda.driver": None, "cuda": None, "cuda.bindings": None,
                                         "cuda.bindings.driver": None, "cuda.bindings.nvrtc": None}


def install_fake_pycuda(monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL, **properties: Any) -> EmulatedGpu:
    """pycuda alone, over a GPU with these properties of EmulatedGpu."""
    gpu = EmulatedGpu(library, **properties)
    _install(monkeypatch, pycuda_modules(gpu))
    real = ctypes.CDLL
    libcuda = FakeLibcuda(gpu)
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *rest: libcuda if name == "libcuda.so.1" else real(name, *rest))
    return gpu


def install_fake_cuda_python(monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL, **properties: Any) -> EmulatedGpu:
    """cuda-python alone, over a GPU with these properties of EmulatedGpu."""
    gpu = EmulatedGpu(library, **properties)
    _install(monkeypatch, cuda_python_modules(gpu))
    return gpu


def install_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither package."""
    _install(monkeypatch, {})


def _install(monkeypatch: pytest.MonkeyPatch, modules: dict[str, ModuleType]) -> None:
    for name, module in (BLOCKED | modules).items():
        monkeypatch.setitem(sys.modules, name, module)


def install_fake_nvcc(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str | None = None) -> Path:
    """An ``nvcc`` alone on PATH whose cubins an emulated GPU takes, and an empty kernel cache, both in a folder.

    Args:
        body: Python code instead, with ``options``, what comes after the name, and ``out``, the path after ``-o``.
    """
    tools = folder / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    nvcc = tools / "nvcc"
    takes = "architecture = next(o.split('=')[1] for o in options if o.startswith('-arch='))\n"
    body = body or takes + f"open(out, 'wb').write({CUBIN!r} + architecture.encode())\n"
    nvcc.write_text(f"#!{sys.executable}\nimport sys\noptions = sys.argv[1:]\n"
                    "with open(__file__ + '.log', 'a') as log: log.write(' '.join(options) + '\\n')\n"
                    f"out = options[options.index('-o') + 1] if '-o' in options else None\n{body}\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("EDGEKP_CACHE", str(folder / "cache"))
    return nvcc
