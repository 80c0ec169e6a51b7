"""Kernels are compiled once for each GPU and each source, and never loaded from a file that is not what was written."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.runtime.gpu import kernel_cache, kernel_compiler
from deploy.runtime.gpu.kernel_cache import SOURCES, cache_folder, cubin_for
from deploy.runtime.gpu.kernel_compiler import compile_kernels
from edgekp.errors import DeviceError
from tests.deploy.cuda.emulated_gpu import CUBIN
from tests.deploy.cuda.fake_gpu import install_fake_nvcc
from tests.deploy.cuda.kernel_signatures import kernel_signatures
from tests.deploy.cuda.recorded import recorded_names

NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


@pytest.fixture
def nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return install_fake_nvcc(monkeypatch, tmp_path)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCES, tmp_path / "sources"))


def runs(nvcc: Path) -> list[str]:
    log = Path(f"{nvcc}.log")
    return log.read_text().splitlines() if log.exists() else []


def test_kernels_are_compiled_once(nvcc: Path) -> None:
    assert cubin_for("sm_87") == cubin_for("sm_87") == CUBIN + b"sm_87"
    assert len(runs(nvcc)) == 1


def test_another_gpu_gets_its_own_kernels(nvcc: Path) -> None:
    assert cubin_for("sm_87") != cubin_for("sm_90")
    assert cubin_for("sm_90") == CUBIN + b"sm_90"
    assert len(runs(nvcc)) == 2


@pytest.mark.parametrize("name", sorted(path.name for path in SOURCES.glob("*.cu*")))
def test_a_change_of_any_source_compiles_anew(nvcc: Path, sources: Path, name: str) -> None:
    cubin_for("sm_87", sources)
    with (sources / name).open("a") as file:
        file.write("\n")
    cubin_for("sm_87", sources)
    assert len(runs(nvcc)) == 2


def test_a_change_of_the_options_compiles_anew(nvcc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cubin_for("sm_87")
    monkeypatch.setattr(kernel_cache, "OPTIONS", ("-std=c++20",))
    cubin_for("sm_87")
    assert len(runs(nvcc)) == 2


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: content + b"x",
                                    lambda content: content[:40] + b"?" + content[41:],
                                    lambda content: b"?" + content[1:]])
def test_a_damaged_file_is_not_loaded_but_made_again(nvcc: Path, damage: Any) -> None:
    cubin_for("sm_87")
    cached, = cache_folder().iterdir()
    cached.write_bytes(damage(cached.read_bytes()))
    assert cubin_for("sm_87") == cubin_for("sm_87") == CUBIN + b"sm_87"
    assert len(runs(nvcc)) == 2


def test_with_a_key_a_cubin_that_was_not_signed_with_it_is_made_again(
        nvcc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cubin_for("sm_87")
    cached, = cache_folder().iterdir()
    foreign = b"foreign cubin"
    cached.write_bytes(sha256(foreign).digest() + foreign)
    assert cubin_for("sm_87") == foreign  # a digest that fits is all that can be asked without a key
    for number, key in enumerate(("correct horse battery staple", "another horse, another battery"), 2):
        monkeypatch.setenv("EDGEKP_KEY", key)
        assert cubin_for("sm_87") == cubin_for("sm_87") == CUBIN + b"sm_87"
        assert len(runs(nvcc)) == number
        assert f"kernels: {cached} was changed, or is not signed with the key" in capsys.readouterr().err
    monkeypatch.delenv("EDGEKP_KEY")
    assert cubin_for("sm_87") == CUBIN + b"sm_87"
    assert len(runs(nvcc)) == 3


def test_a_user_without_a_home_compiles_at_every_start(
        nvcc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("EDGEKP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a KeyError, as for a number without an account
    assert cubin_for("sm_87") == cubin_for("sm_87") == CUBIN + b"sm_87"
    assert len(runs(nvcc)) == 2
    assert "set EDGEKP_CACHE to a folder that can" in capsys.readouterr().err


def test_nothing_half_written_is_left(nvcc: Path) -> None:
    cubin_for("sm_87")
    assert [path.name.split("-")[0] for path in cache_folder().iterdir()] == ["sm_87"]


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
        nvcc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKP_CACHE", str(tmp_path / "file" / "folder"))
    assert cubin_for("sm_87") == CUBIN + b"sm_87"
    assert "EDGEKP_CACHE" in capsys.readouterr().err


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("EDGEKP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/somebody/.cache/edgekp/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/edgekp/kernels")
    monkeypatch.setenv("EDGEKP_CACHE", "/mine")
    assert cache_folder() == Path("/mine")


def test_a_compiler_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_fake_nvcc(monkeypatch, tmp_path, "print('a note\\nnvcc fatal   : Value sm_53 is not defined', "
                                             "file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(DeviceError, match=r"sm_53: nvcc fatal   : Value sm_53 is not defined; use") as error:
        cubin_for("sm_53")
    assert "\n" not in str(error.value)
    assert not cache_folder().exists()


def test_a_compiler_that_writes_nothing_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_fake_nvcc(monkeypatch, tmp_path, "pass")
    with pytest.raises(DeviceError, match="says nothing"):
        cubin_for("sm_87")


def test_a_compiler_that_cannot_be_run_is_named(nvcc: Path) -> None:
    nvcc.write_text("no script")
    with pytest.raises(DeviceError, match="cannot compile the kernels"):
        cubin_for("sm_87")


@pytest.fixture
def without_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGEKP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_compiler, "USUAL_PLACE", str(tmp_path))


@pytest.mark.usefixtures("without_nvcc")
def test_without_any_compiler_the_error_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(DeviceError, match=r"neither nvcc .* nor NVRTC .*apt install"):
        cubin_for("sm_87")


def test_nvcc_is_found_where_it_usually_is(
        nvcc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kernel_compiler, "USUAL_PLACE", str(nvcc.parent))
    assert cubin_for("sm_87") == CUBIN + b"sm_87"


class FakeNvrtc:
    """NVRTC that takes the source and its headers, and refuses where it is told to."""

    def __init__(self, refuses: bool = False) -> None:
        self.nvrtcResult = SimpleNamespace(NVRTC_SUCCESS=SimpleNamespace(name="NVRTC_SUCCESS"))
        self._ok = self.nvrtcResult.NVRTC_SUCCESS
        self._refuses = refuses
        self.options: list[bytes] = []
        self.headers: list[bytes] = []
        self._log = b"error: no such thing\0"

    def nvrtcCreateProgram(self, src: bytes, name: bytes, numHeaders: int, headers: Any, includeNames: Any) -> Any:
        assert numHeaders == len(headers) == len(includeNames)
        assert b'#include "crop.cuh"' in src
        self.headers = includeNames
        return self._ok, "program"

    def nvrtcCompileProgram(self, prog: Any, numOptions: int, options: Any) -> Any:
        assert numOptions == len(options)
        self.options = options
        return (SimpleNamespace(name="NVRTC_ERROR_COMPILATION") if self._refuses else self._ok,)

    def nvrtcGetProgramLogSize(self, prog: Any) -> Any:
        return self._ok, len(self._log)

    def nvrtcGetProgramLog(self, prog: Any, log: bytes) -> Any:
        return self._fill(log, self._log)

    def nvrtcGetCUBINSize(self, prog: Any) -> Any:
        return self._ok, 9

    def nvrtcGetCUBIN(self, prog: Any, cubin: bytes) -> Any:
        return self._fill(cubin, b"the cubin")

    def nvrtcDestroyProgram(self, prog: Any) -> Any:
        return (self._ok,)

    def _fill(self, place: bytes, content: bytes) -> Any:
        """As the real one writes into the bytes that it is given."""
        header = bytes.__basicsize__ - 1
        ctypes.memmove(id(place) + header, content, len(content))
        return (self._ok,)


def install_nvrtc(monkeypatch: pytest.MonkeyPatch, nvrtc: Any) -> None:
    names = recorded_names("cuda.bindings.nvrtc")
    used = {name for name in dir(nvrtc) if name.startswith("nvrtc") and name[5].isupper()} - {"nvrtcResult"}
    assert used <= names["functions"].keys()
    bindings = SimpleNamespace(nvrtc=nvrtc)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", nvrtc)


@pytest.mark.usefixtures("without_nvcc")
def test_nvrtc_compiles_where_there_is_no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    nvrtc = FakeNvrtc()
    install_nvrtc(monkeypatch, nvrtc)
    assert cubin_for("sm_87") == b"the cubin"
    assert b"--gpu-architecture=sm_87" in nvrtc.options
    assert set(nvrtc.headers) == {path.name.encode() for path in SOURCES.glob("*.cuh")}


@pytest.mark.usefixtures("without_nvcc")
def test_nvrtc_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvrtc(monkeypatch, FakeNvrtc(refuses=True))
    with pytest.raises(DeviceError, match="error: no such thing"):
        cubin_for("sm_87")


def test_the_kernels_need_no_header_but_their_own() -> None:
    """NVRTC has none of the others, and no INFINITY."""
    included = {line.split()[1] for path in SOURCES.glob("*.cu*") for line in path.read_text().splitlines()
                if line.startswith("#include")}
    assert included <= {f'"{path.name}"' for path in SOURCES.glob("*.cuh")}
    assert "#define INFINITY" in (SOURCES / "numbers.cuh").read_text()


@pytest.mark.slow
def test_the_real_nvrtc_makes_all_kernels() -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="needs cuda-python")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"needs NVIDIA's library NVRTC: {error}")
    cubin = kernel_compiler._by_nvrtc(nvrtc, SOURCES / "keypoints.cu", "sm_87")
    assert all(name.encode() in cubin for name in kernel_signatures())


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler, nvcc")
def test_the_real_compiler_makes_all_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKP_CACHE", str(tmp_path))
    assert NVCC
    monkeypatch.setenv("PATH", f"{Path(NVCC).parent}:{os.environ['PATH']}")
    cubin = cubin_for("sm_87")
    assert all(name.encode() in cubin for name in kernel_signatures())
    monkeypatch.setattr(subprocess, "run", None)
    assert cubin_for("sm_87") == cubin


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler, nvcc")
def test_the_real_compiler_says_what_it_does_not_take(tmp_path: Path) -> None:
    source = tmp_path / "keypoints.cu"
    source.write_text('extern "C" __global__ void kernel() { no_such_thing(); }\n')
    with pytest.raises(DeviceError, match=r'keypoints.cu\(1\): error: identifier "no_such_thing" is undefined'):
        compile_kernels(source, "sm_87")
    with pytest.raises(DeviceError, match="sm_1"):
        compile_kernels(source, "sm_1")
