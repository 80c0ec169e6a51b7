"""CUDA source to a cubin, by NVIDIA's compiler nvcc, or by its library NVRTC where that is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekp.errors import DeviceError

OPTIONS = ("-std=c++17",)
USUAL_PLACE = "/usr/local/cuda/bin"
LONGEST_S = 600.0  # about 20 on an Orin
LINES_OF_ERROR = 8
HINT = ("install it: sudo apt install cuda-nvcc-12-6 on a Jetson with JetPack 6 (the version of your CUDA), or: "
        "pip install 'cuda-python[all]'")


def compile_kernels(source: Path, architecture: str) -> bytes:
    """The cubin of a source and of the headers beside it.

    Args:
        architecture: such as ``sm_87``.

    Raises:
        DeviceError: There is no compiler, or it refuses the source or the architecture.
    """
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=USUAL_PLACE)
    if nvcc:
        return _by_nvcc(nvcc, source, architecture)
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise DeviceError(f"no compiler for the kernels: neither nvcc on PATH or in {USUAL_PLACE}, nor NVRTC "
                          f"({error}); {HINT}") from error
    return _by_nvrtc(nvrtc, source, architecture)


def _by_nvcc(nvcc: str, source: Path, architecture: str) -> bytes:
    with TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = [nvcc, f"-arch={architecture}", *OPTIONS, "-cubin", "-o", str(cubin), str(source)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONGEST_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"{nvcc}: cannot compile the kernels ({error}); repair the CUDA toolkit") from error
        if done.returncode or not cubin.is_file():
            raise _refusal(nvcc, architecture, done.stderr or done.stdout)
        return cubin.read_bytes()


def _by_nvrtc(nvrtc: Any, source: Path, architecture: str) -> bytes:
    headers = sorted(source.parent.glob("*.cuh"))
    options = [f"--gpu-architecture={architecture}".encode(), *(option.encode() for option in OPTIONS)]
    try:
        _, program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(
            source.read_bytes(), source.name.encode(), len(headers), [path.read_bytes() for path in headers],
            [path.name.encode() for path in headers]))
    except RuntimeError as error:  # the library is loaded now, and not when it is imported
        raise DeviceError(f"no compiler for the kernels: no nvcc, and NVRTC does not load "
                          f"({' '.join(str(error).split())}); {HINT}") from error
    compiled, = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if compiled != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
        log = b" " * max(size, 2)  # the library writes into it; of one byte there is one object in all of Python
        _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
        raise _refusal("NVRTC", architecture, log.decode(errors="replace") or compiled.name)
    _, size = _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
    cubin = b" " * int(size)  # the library writes into it
    _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
    _checked(nvrtc, nvrtc.nvrtcDestroyProgram(program))
    return cubin


def _checked(nvrtc: Any, results: tuple[Any, ...]) -> tuple[Any, ...]:
    if results[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise DeviceError(f"NVRTC failed: {results[0].name}; {HINT}")
    return results


def _refusal(compiler: str, architecture: str, log: str) -> DeviceError:
    """One line of what a compiler printed: its first errors, or its first lines."""
    lines = [line.strip() for line in log.strip("\0 \n").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line or "fatal" in line]
    told = " | ".join((errors or lines)[:LINES_OF_ERROR]) or "it says nothing"
    return DeviceError(f"{compiler}: does not compile the kernels for {architecture}: {told}; use a CUDA toolkit that "
                       "knows this GPU")
