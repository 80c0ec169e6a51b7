"""Python and its packages on a device: what is there, what pip has laid over what JetPack brings. Knows no board."""

from __future__ import annotations

import json
import platform
import re

from edgekp.doctor.device_line import Answer, Line, Machine

# Version and file of a module; many say their version only in the package above them, or to pip.
VERSION = """
import importlib, importlib.metadata, json, sys
name, package = sys.argv[1:]
module = importlib.import_module(name)
above = [sys.modules[name.rsplit(".", count)[0]] for count in range(name.count(".") + 1)]
versions = [getattr(one, attribute) for one in above for attribute in ("__version__", "VERSION_TEXT")
            if hasattr(one, attribute)]
print(json.dumps([versions[0] if versions else importlib.metadata.version(package), str(module.__file__)]))
"""
OPENCV = "import cv2, json; print(json.dumps([cv2.__version__, cv2.__file__, cv2.getBuildInformation()]))"

FROM_PIP = "python3 -m pip install"
KEEP_NUMPY = "'numpy<2'"  # a newer one would be laid over JetPack's, for which its OpenCV and TensorRT were built
REMOVE_OPENCV = ("python3 -m pip uninstall opencv-python opencv-python-headless opencv-contrib-python; "
                 "sudo apt install python3-opencv")
CUDA_PATH = "PATH=/usr/local/cuda/bin:$PATH"
NUMPY_OF_ANOTHER_TIME = ("_ARRAY_API not found", "numpy.core.multiarray failed to import",
                         "numpy.dtype size changed")  # what a module built for numpy 1 says beside numpy 2


def python_lines(machine: Machine) -> list[Line]:
    return [_python(machine), _numpy(machine), _opencv(machine), _tensorrt(machine), _cuda_from_python(machine),
            _onnxruntime(machine), _litert(machine)]


def _python(machine: Machine) -> Line:
    version = platform.python_version()
    settings = machine.environment / "pyvenv.cfg"
    if machine.is_jetson and settings.is_file() and "include-system-site-packages = false" in settings.read_text():
        return Line("Python", f"{version} in {machine.environment}, which hides what JetPack brings", "worth knowing",
                    f"sed -i 's/\\(include-system-site-packages = \\)false/\\1true/' {settings}")
    return Line("Python", version)


def _numpy(machine: Machine) -> Line:
    mend = "sudo apt install python3-numpy" if machine.is_jetson else f"{FROM_PIP} numpy"
    return _module(machine, "numpy", "numpy", "numpy", mend)


def _opencv(machine: Machine) -> Line:
    answer = machine.python(OPENCV)
    if answer.problem:
        install = "sudo apt install python3-opencv" if machine.is_jetson else f"{FROM_PIP} opencv-python-headless"
        return _broken("OpenCV", "cv2", answer.problem, install, machine)
    version, file, information = json.loads(answer.said.splitlines()[-1])
    has = {name: _built_in(name, information) for name in ("GStreamer", "v4l/v4l2")}
    found = f"{version}, GStreamer {_yes(has['GStreamer'])}, V4L2 {_yes(has['v4l/v4l2'])}"
    if machine.is_jetson and not has["GStreamer"]:
        return Line("OpenCV", f"{found}: {file} hides JetPack's, and has no way to a CSI camera", "worth knowing",
                    REMOVE_OPENCV)
    return Line("OpenCV", found)


def _tensorrt(machine: Machine) -> Line:
    mend = "sudo apt install python3-libnvinfer" if machine.is_jetson else f"{FROM_PIP} tensorrt"
    return _module(machine, "TensorRT", "tensorrt", "tensorrt", mend)


def _cuda_from_python(machine: Machine) -> Line:
    """pycuda or cuda-python: either will do, the first is asked first."""
    lines = [_module(machine, "CUDA for Python", module, package, _pycuda(machine))
             for module, package in (("pycuda.driver", "pycuda"), ("cuda.bindings.driver", "cuda-bindings"))]
    names = ("pycuda", "cuda-python")
    good = [f"{name} {line.found}" for name, line in zip(names, lines, strict=True) if line.state == "ok"]
    if good:
        return Line("CUDA for Python", ", ".join(good))
    broken = [line for line in lines if not line.found.startswith("not installed")]
    return broken[0] if broken else Line("CUDA for Python", "neither pycuda nor cuda-python", "missing", lines[0].mend)


def _pycuda(machine: Machine) -> str:
    """It is built here, against the machine's own CUDA."""
    build = f"{CUDA_PATH} {FROM_PIP} pycuda"
    return f"sudo apt install python3-pip python3-dev build-essential; {build}" if machine.is_jetson else build


def _onnxruntime(machine: Machine) -> Line:
    return _module(machine, "ONNX Runtime", "onnxruntime", "onnxruntime", _from_pip("onnxruntime", machine))


def _litert(machine: Machine) -> Line:
    return _module(machine, "LiteRT", "ai_edge_litert.interpreter", "ai-edge-litert",
                   _from_pip("ai-edge-litert", machine))


def _from_pip(package: str, machine: Machine) -> str:
    return f"{FROM_PIP} {package} {KEEP_NUMPY}" if machine.is_jetson else f"{FROM_PIP} {package}"


def _module(machine: Machine, part: str, module: str, package: str, mend: str) -> Line:
    answer: Answer = machine.python(VERSION, module, package)
    if answer.problem:
        return _broken(part, module, answer.problem, mend, machine)
    version, file = json.loads(answer.said.splitlines()[-1])
    if machine.is_jetson and part == "numpy" and int(version.split(".")[0]) >= 2:
        return Line(part, f"{version} in {file} hides JetPack's, for which its OpenCV and TensorRT were built",
                    "worth knowing", f"{FROM_PIP} {KEEP_NUMPY}")
    return Line(part, version)


def _broken(part: str, module: str, problem: str, mend: str, machine: Machine) -> Line:
    absent = re.search(r"No module named '([\w.]+)'", problem)
    if absent and f"{module}.".startswith(f"{absent[1]}."):
        return Line(part, f"not installed ({module})", "missing", mend)
    if any(words in problem for words in NUMPY_OF_ANOTHER_TIME):
        return Line(part, f"was built for another numpy: {problem}", "missing", f"{FROM_PIP} {KEEP_NUMPY}")
    if "libnvdla_compiler" in problem and machine.is_container:
        return Line(part, problem, "missing", "docker run --runtime nvidia ...")
    return Line(part, f"cannot be imported: {problem}", "missing", mend)


def _built_in(name: str, information: str) -> bool:
    return re.search(rf"^\s*{name}:\s+YES", information, re.MULTILINE) is not None


def _yes(value: bool) -> str:
    return "yes" if value else "no"
