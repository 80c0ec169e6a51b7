"""TensorRT's Python module: found, asked for names that not every version has, its messages kept. Knows no model.

One code path serves TensorRT 8.6 to 11 and TensorRT-RTX, whose modules are alike. What is looked up here by name:

    NetworkDefinitionCreationFlag.STRONGLY_TYPED   not in 8.6
    BuilderFlag.FP16, BuilderFlag.INT8             not in 11, where the file alone says each tensor's type
    ICudaEngine.device_memory_size_v2              not in 8.6; device_memory_size not in 11
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from edgekp.errors import EngineError

MODULES = ("tensorrt", "tensorrt_rtx")
INSTALL = ("on a Jetson run: sudo apt install python3-libnvinfer (a virtual environment also needs "
           "--system-site-packages); elsewhere: pip install a tensorrt-cu12 or -cu13 of your driver")


def import_tensorrt() -> Any:
    """The first of ``MODULES`` that is installed.

    Raises:
        EngineError: None is, or one is without the libraries that it loads.
    """
    reasons = []
    for name in MODULES:
        try:
            return import_module(name)
        except (ImportError, OSError) as error:  # its __init__ loads the libraries itself
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                reasons.append(f"{name} does not load ({str(error).strip().splitlines()[0]})")
    raise EngineError(f"{'; '.join(reasons) or 'no TensorRT for Python is installed'}; {INSTALL}")


def label(trt: Any) -> str:
    """The version that an engine is tied to, such as ``10.3.0``; of TensorRT-RTX ``RTX 1.7.1``."""
    return f"{'RTX ' if 'rtx' in trt.__name__ else ''}{trt.__version__}"


def has_strong_types(trt: Any) -> bool:
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(trt: Any, *, strongly_typed: bool) -> int:
    """For ``create_network``. An explicit batch is what 8.6 must be asked for, and what later versions always have."""
    flags = trt.NetworkDefinitionCreationFlag
    names = ["EXPLICIT_BATCH"] + (["STRONGLY_TYPED"] if strongly_typed else [])
    return sum(1 << int(getattr(flags, name)) for name in names if hasattr(flags, name))


def precision_flags(trt: Any, names: Sequence[str]) -> list[Any] | None:
    """Members of ``BuilderFlag``; None where this version has no such flags."""
    found = [getattr(trt.BuilderFlag, name, None) for name in names]
    return None if None in found else found


def device_memory_bytes(engine: Any) -> int:
    """What one execution context of the engine takes beside its weights."""
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def keeping_logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps errors in ``errors``, which is where TensorRT says why it gave None."""

    class KeepingLogger(trt.ILogger):  # type: ignore[misc]  # the module is known at run time alone
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(" ".join(message.split()))

    return KeepingLogger()


def quoted(logger: Any) -> str:
    """The first error that TensorRT logged, which is the cause of the others, for a sentence of ours."""
    return logger.errors[0] if logger.errors else "it gives no reason"
