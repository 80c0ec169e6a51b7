"""pycuda as a program sees it, over an emulated GPU; it has the names of the real one, and none that that lacks.

The Python interface of pycuda knows no graphs; who wants them calls the library of the CUDA driver itself.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from types import ModuleType
from typing import Any

import numpy as np

from tests.deploy.cuda.emulated_gpu import EmulatedGpu, Refused
from tests.deploy.cuda.recorded import guarded, recorded_names

NAMES = recorded_names("pycuda.driver")


def pycuda_modules(gpu: EmulatedGpu) -> dict[str, ModuleType]:
    """``pycuda`` and ``pycuda.driver``, to be put into ``sys.modules``."""
    package, driver = ModuleType("pycuda"), ModuleType("pycuda.driver")
    package.__dict__.update(VERSION_TEXT=NAMES["version"], driver=driver)
    error = type("Error", (Exception,), {})
    errors = {"Error": error} | {name: type(name, (error,), {}) for name in ("MemoryError", "LogicError",
                                                                              "LaunchError", "RuntimeError")}
    kinds = {**_context_classes(gpu), **_memory_classes(gpu)}
    members = {**errors, **kinds, **_functions(gpu, kinds)}
    known = {*NAMES["functions"], *NAMES["classes"], *NAMES["exceptions"]}
    assert members.keys() <= known, members.keys() - known
    driver.__dict__.update({name: guarded(member, lambda refused: _raise(errors, refused))
                            for name, member in members.items()})
    return {"pycuda": package, "pycuda.driver": driver}


def _raise(errors: dict[str, type[Exception]], refused: Refused) -> None:
    kind = {"CUDA_ERROR_OUT_OF_MEMORY": "MemoryError", "CUDA_ERROR_LAUNCH_FAILED": "LaunchError",
            "CUDA_ERROR_NO_DEVICE": "RuntimeError", "CUDA_ERROR_NO_BINARY_FOR_GPU": "RuntimeError"}
    raise errors[kind.get(str(refused), "LogicError")](f"cuSomething failed: {in_words(refused)}") from refused


def in_words(refused: object) -> str:
    """An error as pycuda says it: the CUDA driver's description instead of its name."""
    return str(refused).replace("CUDA_ERROR_", "").replace("_", " ").lower()


def _handle_of(stream: Any) -> int:
    return 0 if stream is None else int(stream.handle)


def _functions(gpu: EmulatedGpu, kinds: dict[str, Any]) -> dict[str, Any]:
    def init(flags: int = 0) -> None:
        if "init" in gpu.refusals:
            raise Refused(gpu.refusals.pop("init"))

    def get_driver_version() -> int:
        return gpu.driver_version

    def mem_alloc(size: int) -> Any:
        return kinds["DeviceAllocation"](gpu.allocate(size))

    def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = gpu.pin(size)
        memory = (ctypes.c_uint8 * size).from_address(address)
        weakref.finalize(memory, lambda: gpu.pinned.pop(address, None))
        return np.frombuffer(memory, dtype).reshape(shape)

    def memcpy_htod_async(dest: int, src: Any, stream: Any = None) -> None:
        assert memoryview(src).contiguous
        gpu.copy_to_device(int(dest), src.ctypes.data, src.nbytes, _handle_of(stream))

    def memcpy_dtoh_async(dest: Any, src: int, stream: Any = None) -> None:
        view = memoryview(dest)
        assert view.contiguous
        assert not view.readonly
        gpu.copy_to_host(dest.ctypes.data, int(src), dest.nbytes, _handle_of(stream))

    def module_from_buffer(buffer: bytes, options: Any = (), message_handler: Any = None) -> Any:
        return kinds["Module"](gpu.load(bytes(memoryview(buffer))))

    return {function.__name__: function for function in (init, get_driver_version, mem_alloc, pagelocked_empty,
                                                         memcpy_htod_async, memcpy_dtoh_async, module_from_buffer)}


def _context_classes(gpu: EmulatedGpu) -> dict[str, Any]:
    class Device:
        def __init__(self, number: int) -> None:
            if number:
                raise Refused("CUDA_ERROR_INVALID_DEVICE")

        count = staticmethod(lambda: 1)

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return gpu.capability

        def retain_primary_context(self) -> Any:
            gpu.retained += 1
            return Context()

    class Context:
        def push(self) -> None:
            me = threading.get_ident()
            gpu.contexts[me] = gpu.contexts.get(me, 0) + 1

        @staticmethod
        def pop() -> None:
            gpu.contexts[threading.get_ident()] -= 1

        def detach(self) -> None:
            gpu.retained -= 1
            gpu.streams.clear()  # pycuda gives those back with their context, if somebody still holds them
            gpu.modules.clear()

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            self.handle = gpu.new_stream(flags)
            weakref.finalize(self, gpu.streams.pop, self.handle, None)

        def synchronize(self) -> None:
            gpu.synchronize(self.handle)

    return _as_recorded(Device, Context, Stream)


def _memory_classes(gpu: EmulatedGpu) -> dict[str, Any]:
    class DeviceAllocation:
        def __init__(self, address: int) -> None:
            self._address = address

        def __int__(self) -> int:
            return self._address

        __index__ = __int__

        def free(self) -> None:
            gpu.free(self._address)

    class Module:
        def __init__(self, handle: int) -> None:
            weakref.finalize(self, gpu.modules.discard, handle)

        def get_function(self, name: str) -> Any:
            function = Function(gpu.function(name))
            function._module = self  # a function keeps its module alive, as in pycuda
            return function

    class Function:
        _module: Any = None

        def __init__(self, name: str) -> None:
            self._name = name

        def __call__(self, *arguments: Any, grid: Any = (1, 1), block: Any = None, stream: Any = None,
                     shared: int = 0, texrefs: Any = (), time_kernel: bool = False) -> None:
            for number, argument in enumerate(arguments):
                if not isinstance(argument, (np.number, np.void)):
                    raise TypeError(f"invalid type on parameter #{number} (0-based)")
            assert not shared
            assert not time_kernel
            gpu.launch(self._name, (*grid, *(1,) * (3 - len(grid))), block, arguments, _handle_of(stream))

    return _as_recorded(DeviceAllocation, Module, Function)


def _as_recorded(*kinds: type) -> dict[str, Any]:
    """The classes by name, which have no name that pycuda's lack."""
    for kind in kinds:
        mine = {name for name in vars(kind) if not name.startswith("_")}
        assert mine <= set(NAMES["classes"][kind.__name__]), mine
    return {kind.__name__: kind for kind in kinds}
