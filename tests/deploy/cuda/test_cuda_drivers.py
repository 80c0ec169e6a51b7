"""Both packages drive the GPU alike: memory, copies, kernels, graphs, errors by name, and nothing left behind."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.runtime.gpu.backend import open_driver
from deploy.runtime.gpu.driver import CudaDriver
from deploy.runtime.gpu.kernel_cache import KERNELS, load_kernels
from edgekp.errors import DeviceError
from tests.deploy.cuda import recorded
from tests.deploy.cuda.emulated_gpu import CUBIN, EmulatedGpu, Misuse
from tests.deploy.cuda.fake_gpu import (
    install_fake_cuda_python,
    install_fake_nvcc,
    install_fake_pycuda,
    install_no_driver,
)
from tests.deploy.cuda.fake_pycuda import in_words
from tests.deploy.cuda.kernel_signatures import kernel_signatures

INSTALLS = {"pycuda": install_fake_pycuda, "cuda-python": install_fake_cuda_python}
ORIN = CUBIN + b"sm_87"


@pytest.fixture(params=list(INSTALLS))
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL) -> EmulatedGpu:
    return INSTALLS[request.param](monkeypatch, library)


@pytest.fixture
def driver(device: EmulatedGpu) -> Iterator[CudaDriver]:
    """Closed at the end, after which nothing may be left."""
    opened = open_driver()
    yield opened
    opened.close()
    assert not device.leaks()


def called(error: str) -> str:
    """A pattern for an error: its name, or pycuda's words for it. Functions outside pycuda say the name."""
    return f"{error}|{in_words(error)}"


def filled(driver: CudaDriver, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    host = driver.pinned(values.shape, values.dtype)
    host[...] = values
    return host


def test_pycuda_comes_first_and_cuda_python_second(monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL) -> None:
    for install, name in ((install_fake_cuda_python, "cuda-python 13.5.0"), (install_fake_pycuda, "pycuda 2026.1")):
        install(monkeypatch, library)
        opened = open_driver()
        assert opened.name == name
        opened.close()


def test_without_either_package_the_error_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    install_no_driver(monkeypatch)
    with pytest.raises(DeviceError, match=r"pycuda.*cuda-python.*pip install pycuda.*pip install cuda-python"):
        open_driver()


def test_a_machine_without_a_gpu_is_said_to_be_one(device: EmulatedGpu) -> None:
    device.refusals["init"] = "CUDA_ERROR_NO_DEVICE"
    with pytest.raises(DeviceError, match=called("CUDA_ERROR_NO_DEVICE")):
        open_driver()


def test_the_gpu_describes_itself(driver: CudaDriver) -> None:
    assert driver.gpu.name == "Orin (emulated)"
    assert driver.gpu.architecture == "sm_87"
    assert driver.gpu.cuda_version == 12060


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.int32])
def test_what_is_copied_there_and_back_is_the_same_once_the_stream_is_empty(driver: CudaDriver, dtype: Any) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    stream, address = driver.new_stream(), driver.allocate(values.nbytes)
    back = driver.pinned(values.shape, dtype)
    back[...] = 0
    driver.to_device(address, filled(driver, values), stream)
    driver.to_host(back, address, stream)
    assert not back.any()
    driver.synchronize(stream)
    np.testing.assert_array_equal(back, values)
    driver.free(address)


def test_a_graph_does_again_what_was_queued_while_it_was_captured(driver: CudaDriver) -> None:
    stream, address = driver.new_stream(), driver.allocate(16)
    there, back = driver.pinned((4,), np.float32), driver.pinned((4,), np.float32)
    first, last = driver.new_event(), driver.new_event()

    def work() -> None:
        driver.record(first, stream)
        driver.to_device(address, there, stream)
        driver.to_host(back, address, stream)
        driver.record(last, stream)

    graph = driver.capture(stream, work)
    assert graph is not None
    for value in (1.0, 2.0):
        there[...] = value
        driver.replay(graph, stream)
        driver.synchronize(stream)
        assert (back == value).all()
        assert driver.elapsed_ms(first, last) >= 0


def test_a_graph_that_nobody_holds_is_given_back(driver: CudaDriver, device: EmulatedGpu) -> None:
    stream = driver.new_stream()
    graph = driver.capture(stream, lambda: None)
    assert len(device.graphs) == 1
    del graph
    assert not device.graphs


def test_work_that_fails_while_it_is_captured_leaves_a_stream_that_works(driver: CudaDriver) -> None:
    stream, address = driver.new_stream(), driver.allocate(4)
    host = filled(driver, np.ones(1, np.float32))

    def work() -> None:
        driver.to_device(address, host, stream)
        raise DeviceError("no more")

    with pytest.raises(DeviceError, match="no more"):
        driver.capture(stream, work)
    driver.to_device(address, host, stream)
    driver.synchronize(stream)


def test_waiting_while_a_graph_is_captured_is_an_error_of_the_driver(driver: CudaDriver) -> None:
    stream = driver.new_stream()
    with pytest.raises(DeviceError, match=called("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")):
        driver.capture(stream, lambda: driver.synchronize(stream))


def test_times_between_events_need_both(driver: CudaDriver) -> None:
    stream = driver.new_stream()
    first, last = driver.new_event(), driver.new_event()
    driver.record(first, stream)
    driver.record(last, stream)
    with pytest.raises(DeviceError, match=called("CUDA_ERROR_NOT_READY")):
        driver.elapsed_ms(first, last)
    driver.synchronize(stream)
    assert driver.elapsed_ms(first, last) >= 0


CALLS: dict[str, Callable[[CudaDriver, Any], object]] = {
    "allocate": lambda driver, stream: driver.allocate(8),
    "pin": lambda driver, stream: driver.pinned((8,), np.uint8),
    "stream": lambda driver, stream: driver.new_stream(),
    "event": lambda driver, stream: driver.new_event(),
    "record": lambda driver, stream: driver.record(driver.new_event(), stream),
    "synchronize": lambda driver, stream: driver.synchronize(stream),
    "load": lambda driver, stream: driver.load(ORIN, KERNELS),
    "capture": lambda driver, stream: driver.capture(stream, lambda: None),
    "instantiate": lambda driver, stream: driver.capture(stream, lambda: None),
    "replay": lambda driver, stream: driver.replay(driver.capture(stream, lambda: None), stream),
    "copy": lambda driver, stream: driver.to_device(driver.allocate(4), driver.pinned((4,), np.uint8), stream)}


@pytest.mark.parametrize("operation", CALLS)
def test_every_refusal_is_a_device_error_with_the_drivers_name_of_it(
        driver: CudaDriver, device: EmulatedGpu, operation: str) -> None:
    stream = driver.new_stream()
    device.refusals[operation] = "CUDA_ERROR_LAUNCH_FAILED"
    with pytest.raises(DeviceError, match=called("CUDA_ERROR_LAUNCH_FAILED")):
        CALLS[operation](driver, stream)


def test_too_little_memory_is_a_device_error(driver: CudaDriver) -> None:
    with pytest.raises(DeviceError, match=called("CUDA_ERROR_OUT_OF_MEMORY")):
        driver.allocate(1 << 40)


@pytest.mark.parametrize(("cubin", "names", "error"), [
    (CUBIN + b"sm_90", KERNELS, "CUDA_ERROR_NO_BINARY_FOR_GPU"), (b"ELF", KERNELS, "CUDA_ERROR_INVALID_IMAGE"),
    (ORIN, ["decode_poses"], "CUDA_ERROR_NOT_FOUND")])
def test_kernels_of_another_gpu_or_another_name_are_refused(
        driver: CudaDriver, cubin: bytes, names: list[str], error: str) -> None:
    with pytest.raises(DeviceError, match=called(error)):
        driver.load(cubin, names)


def test_another_thread_has_no_gpu(driver: CudaDriver) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, pytest.raises(DeviceError, match=called("CUDA_ERROR_INVALID_CONTEXT")):
        pool.submit(driver.allocate, 8).result()


def test_the_kernels_that_are_loaded_are_those_of_the_source(
        driver: CudaDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_fake_nvcc(monkeypatch, tmp_path)
    assert load_kernels(driver).keys() == kernel_signatures().keys()


def wrong(number: int, value: np.generic) -> Callable[[list[np.generic]], list[np.generic]]:
    return lambda numbers: [*numbers[:number], value, *numbers[number + 1:]]


@pytest.mark.parametrize("change", [
    wrong(1, np.int32(1)), wrong(1, np.float64(1)), wrong(0, np.int32(0)), lambda numbers: numbers[:-1],
    lambda numbers: [*numbers, np.int32(0)], lambda numbers: numbers[::-1]])
def test_arguments_of_a_wrong_type_or_number_are_found(driver: CudaDriver, change: Any) -> None:
    """By the emulated GPU, on which the tests of the decoders rely; a real one would read past its memory."""
    kernel = driver.load(ORIN, ["decode_coordinates_f32"])["decode_coordinates_f32"]
    stream, address = driver.new_stream(), np.uint64(driver.allocate(64))
    right: list[Any] = [address, np.float32(1), address, address]
    driver.launch(kernel, (1, 1), 32, right, stream)
    with pytest.raises((Misuse, KeyError, TypeError, AssertionError)):
        driver.launch(kernel, (1, 1), 32, change(right), stream)


def test_what_a_gpu_would_forgive_is_found(driver: CudaDriver, device: EmulatedGpu) -> None:
    """The default stream, memory that is not pinned, memory that was freed, and memory beside what was asked for."""
    stream, address = driver.new_stream(), driver.allocate(16)
    host = driver.pinned((16,), np.uint8)
    with pytest.raises(Misuse, match="default stream"):
        device.copy_to_device(address, host.ctypes.data, 16, 0)
    with pytest.raises(Misuse, match="not pinned"):
        driver.to_device(address, np.zeros(16, np.uint8), stream)
    with pytest.raises(Misuse, match="no device memory"):
        driver.to_device(address + 1, host, stream)
    driver.to_device(address, host, stream)
    driver.free(address)
    with pytest.raises(Misuse, match="freed memory"):
        driver.synchronize(stream)


NAMES_USED = {"pycuda": ("pycuda.driver", "functions", "memcpy_htod_async"),
              "cuda-python": ("cuda.bindings.driver", "functions", "cuMemcpyHtoDAsync")}


@pytest.mark.parametrize("package", NAMES_USED)
def test_one_misspelt_name_fails(package: str, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL) -> None:
    """Here the package is the one that spells otherwise, which is the same to a driver."""
    INSTALLS[package](monkeypatch, library)
    import sys

    module, _, name = NAMES_USED[package]
    monkeypatch.delattr(sys.modules[module], name)
    opened = open_driver()
    stream, address = opened.new_stream(), opened.allocate(4)
    with pytest.raises(AttributeError, match=name):
        opened.to_device(address, opened.pinned((4,), np.uint8), stream)


def test_the_fakes_have_no_name_that_was_not_recorded(monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL) -> None:
    names = json.loads(Path("tests/deploy/cuda/api_names.json").read_text())
    del names["pycuda.driver"]["functions"][names["pycuda.driver"]["functions"].index("memcpy_htod_async")]
    monkeypatch.setattr("tests.deploy.cuda.fake_pycuda.NAMES", names["pycuda.driver"])
    with pytest.raises(AssertionError, match="memcpy_htod_async"):
        install_fake_pycuda(monkeypatch, library)
    assert recorded.recorded_names("cuda.bindings.driver")["functions"]["cuMemAlloc"] == ["bytesize"]
