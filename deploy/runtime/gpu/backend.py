"""Which package drives the GPU here: pycuda, or else cuda-python. Knows neither's interface."""

from __future__ import annotations

from deploy.runtime.gpu.cuda_python_driver import CudaPythonDriver
from deploy.runtime.gpu.driver import CudaDriver
from deploy.runtime.gpu.pycuda_driver import PyCudaDriver
from edgekp.errors import DeviceError

INSTALL_HINT = ("install one of: pip install pycuda (compiles itself; needs nvcc on PATH: "
                "export PATH=$PATH:/usr/local/cuda/bin), or: pip install cuda-python")


def open_driver() -> CudaDriver:
    """The GPU of this machine, for the calling thread.

    Raises:
        DeviceError: Neither package is there, or there is no GPU.
    """
    missing = []
    for name, kind in (("pycuda", PyCudaDriver), ("cuda-python", CudaPythonDriver)):
        try:
            return kind()
        except ImportError as error:
            missing.append(f"{name}: {error}")
    raise DeviceError(f"no package to drive a GPU with ({'; '.join(missing)}); {INSTALL_HINT}")
