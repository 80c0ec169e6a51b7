"""NVIDIA's ``cuda.bindings.driver`` as a program sees it, over an emulated GPU, with the real one's names alone."""

from __future__ import annotations

import ctypes
import inspect
import threading
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np

from tests.deploy.cuda.emulated_gpu import EmulatedGpu, Refused
from tests.deploy.cuda.recorded import guarded, recorded_names

NAMES = recorded_names("cuda.bindings.driver")
DTYPES = {ctypes.c_void_p: np.uint64, ctypes.c_int: np.int32, ctypes.c_float: np.float32}


def cuda_python_modules(gpu: EmulatedGpu) -> dict[str, Any]:
    """``cuda``, ``cuda.bindings`` and ``cuda.bindings.driver``, to be put into ``sys.modules``."""
    package, bindings, driver = (ModuleType(name) for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"))
    package.__dict__.update(bindings=bindings)
    bindings.__dict__.update(driver=driver, __version__=NAMES["version"])
    enums = {name: IntEnum(name, values) for name, values in NAMES["enums"].items()}  # type: ignore[misc]
    result: Any = enums["CUresult"]
    for name, function in _functions(gpu, result).items():
        assert list(inspect.signature(function).parameters) == NAMES["functions"][name], name
        setattr(driver, name, guarded(function, lambda refused: (result[str(refused)], *[None] * 4)))
    driver.__dict__.update(enums)
    return {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.driver": driver}


class Handle:
    """An object that stands for a number, as CUstream and the others are."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


def _functions(gpu: EmulatedGpu, result: Any) -> dict[str, Any]:
    kinds = (_of_devices, _of_memory, _of_streams, _of_modules, _of_graphs)
    functions = {name: function for kind in kinds for name, function in kind(gpu, result).items()}
    assert functions.keys() <= NAMES["functions"].keys(), functions.keys() - NAMES["functions"].keys()
    return functions


def _named(*functions: Any) -> dict[str, Any]:
    return {function.__name__: function for function in functions}


def _of_devices(gpu: EmulatedGpu, result: Any) -> dict[str, Any]:
    ok = result.CUDA_SUCCESS

    def cuInit(Flags: int) -> Any:
        if "init" in gpu.refusals:
            raise Refused(gpu.refusals.pop("init"))
        return (ok,)

    def cuDriverGetVersion() -> Any:
        return ok, gpu.driver_version

    def cuDeviceGet(ordinal: int) -> Any:
        if ordinal:
            raise Refused("CUDA_ERROR_INVALID_DEVICE")
        return ok, Handle(0)

    def cuDeviceGetName(length: int, dev: Any) -> Any:
        return ok, gpu.name.encode()[:length].ljust(length, b"\0")

    def cuDeviceGetAttribute(attrib: Any, dev: Any) -> Any:
        which = ("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR", "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR")
        return ok, gpu.capability[which.index(attrib.name)]

    def cuDevicePrimaryCtxRetain(dev: Any) -> Any:
        gpu.retained += 1
        return ok, Handle(1)

    def cuDevicePrimaryCtxRelease(dev: Any) -> Any:
        gpu.retained -= 1
        return (ok,)

    def cuCtxPushCurrent(ctx: Any) -> Any:
        me = threading.get_ident()
        gpu.contexts[me] = gpu.contexts.get(me, 0) + 1
        return (ok,)

    def cuCtxPopCurrent() -> Any:
        gpu.contexts[threading.get_ident()] -= 1
        return ok, Handle(1)

    def cuGetErrorName(error: Any) -> Any:
        return ok, error.name.encode()

    def cuGetErrorString(error: Any) -> Any:
        return ok, error.name.lower().replace("_", " ").encode()

    return _named(cuInit, cuDriverGetVersion, cuDeviceGet, cuDeviceGetName, cuDeviceGetAttribute,
                  cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRelease, cuCtxPushCurrent, cuCtxPopCurrent,
                  cuGetErrorName, cuGetErrorString)


def _of_memory(gpu: EmulatedGpu, result: Any) -> dict[str, Any]:
    ok = result.CUDA_SUCCESS

    def cuMemAlloc(bytesize: int) -> Any:
        return ok, Handle(gpu.allocate(bytesize))

    def cuMemFree(dptr: Any) -> Any:
        gpu.free(int(dptr))
        return (ok,)

    def cuMemHostAlloc(bytesize: int, Flags: int) -> Any:
        return ok, gpu.pin(bytesize)

    def cuMemFreeHost(p: int) -> Any:
        gpu.unpin(p)
        return (ok,)

    def cuMemcpyHtoDAsync(dstDevice: Any, srcHost: int, ByteCount: int, hStream: Any) -> Any:
        gpu.copy_to_device(int(dstDevice), srcHost, ByteCount, int(hStream))
        return (ok,)

    def cuMemcpyDtoHAsync(dstHost: int, srcDevice: Any, ByteCount: int, hStream: Any) -> Any:
        gpu.copy_to_host(dstHost, int(srcDevice), ByteCount, int(hStream))
        return (ok,)

    return _named(cuMemAlloc, cuMemFree, cuMemHostAlloc, cuMemFreeHost, cuMemcpyHtoDAsync, cuMemcpyDtoHAsync)


def _of_streams(gpu: EmulatedGpu, result: Any) -> dict[str, Any]:
    ok = result.CUDA_SUCCESS

    def cuStreamCreate(Flags: int) -> Any:
        return ok, Handle(gpu.new_stream(int(Flags)))

    def cuStreamDestroy(hStream: Any) -> Any:
        del gpu.streams[int(hStream)]
        return (ok,)

    def cuStreamSynchronize(hStream: Any) -> Any:
        gpu.synchronize(int(hStream))
        return (ok,)

    def cuEventCreate(Flags: int) -> Any:
        return ok, Handle(gpu.new_event())

    def cuEventDestroy(hEvent: Any) -> Any:
        del gpu.events[int(hEvent)]
        return (ok,)

    def cuEventRecord(hEvent: Any, hStream: Any) -> Any:
        gpu.record(int(hEvent), int(hStream))
        return (ok,)

    def cuEventRecordWithFlags(hEvent: Any, hStream: Any, flags: int) -> Any:
        gpu.record(int(hEvent), int(hStream), flags)
        return (ok,)

    def cuEventElapsedTime(hStart: Any, hEnd: Any) -> Any:
        return ok, gpu.elapsed_ms(int(hStart), int(hEnd))

    return _named(cuStreamCreate, cuStreamDestroy, cuStreamSynchronize, cuEventCreate, cuEventDestroy, cuEventRecord,
                  cuEventRecordWithFlags, cuEventElapsedTime)


def _of_modules(gpu: EmulatedGpu, result: Any) -> dict[str, Any]:
    ok = result.CUDA_SUCCESS

    def cuModuleLoadData(image: bytes) -> Any:
        return ok, Handle(gpu.load(bytes(image)))

    def cuModuleUnload(hmod: Any) -> Any:
        gpu.modules.remove(int(hmod))
        return (ok,)

    def cuModuleGetFunction(hmod: Any, name: bytes) -> Any:
        assert int(hmod) in gpu.modules
        return ok, gpu.function(name.decode())

    def cuLaunchKernel(f: Any, gridDimX: int, gridDimY: int, gridDimZ: int, blockDimX: int, blockDimY: int,
                       blockDimZ: int, sharedMemBytes: int, hStream: Any, kernelParams: Any, extra: int) -> Any:
        assert not sharedMemBytes
        assert not extra
        values, types = kernelParams
        assert isinstance(values, tuple)
        assert isinstance(types, tuple)
        arguments = [_argument(value, kind) for value, kind in zip(values, types, strict=True)]
        gpu.launch(f, (gridDimX, gridDimY, gridDimZ), (blockDimX, blockDimY, blockDimZ), arguments, int(hStream))
        return (ok,)

    return _named(cuModuleLoadData, cuModuleUnload, cuModuleGetFunction, cuLaunchKernel)


def _argument(value: Any, kind: Any) -> Any:
    """What the bindings make of a value and its ctypes type; a structure goes by itself, with None."""
    if kind is None:
        assert isinstance(value, ctypes.Structure), "the bindings take no other object without a type"
        return np.frombuffer(bytes(value), np.dtype((np.void, ctypes.sizeof(value))))[0]
    assert isinstance(value, float if kind is ctypes.c_float else int)
    return DTYPES[kind](value)


def _of_graphs(gpu: EmulatedGpu, result: Any) -> dict[str, Any]:
    ok = result.CUDA_SUCCESS

    def cuStreamBeginCapture(hStream: Any, mode: Any) -> Any:
        assert mode.name == "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL"
        gpu.begin_capture(int(hStream))
        return (ok,)

    def cuStreamEndCapture(hStream: Any) -> Any:
        return ok, Handle(gpu.end_capture(int(hStream)))

    def cuGraphInstantiate(hGraph: Any, flags: int) -> Any:
        return ok, Handle(gpu.instantiate(int(hGraph)))

    def cuGraphLaunch(hGraphExec: Any, hStream: Any) -> Any:
        gpu.replay(int(hGraphExec), int(hStream))
        return (ok,)

    def cuGraphDestroy(hGraph: Any) -> Any:
        del gpu.graphs[int(hGraph)]
        return (ok,)

    def cuGraphExecDestroy(hGraphExec: Any) -> Any:
        del gpu.graphs[int(hGraphExec)]
        return (ok,)

    return _named(cuStreamBeginCapture, cuStreamEndCapture, cuGraphInstantiate, cuGraphLaunch, cuGraphDestroy,
                  cuGraphExecDestroy)
