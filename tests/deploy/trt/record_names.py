"""Records the names of TensorRT's Python bindings, without a GPU and without TensorRT: tensorrt_names.json.

    python tests/deploy/trt/record_names.py UNPACKED_WHEEL... > tests/deploy/trt/tensorrt_names.json

A wheel of bindings (tensorrt-bindings, tensorrt-cu12-bindings) holds one extension module that wants TensorRT's
libraries; empty ones made by gcc are enough to import it. Wheels of 8.6 want Python 3.10, later ones have one for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

CLASSES = (
    "Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "ParserError", "IOptimizationProfile", "ITensor",
    "IHostMemory", "ITimingCache", "ILogger", "Runtime", "ICudaEngine", "IExecutionContext", "EngineInspector",
    "BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "DeviceType", "DataType", "TensorIOMode",
    "ProfilingVerbosity", "LayerInformationFormat")
FUNCTIONS = ("nptype",)
PYTHONS = {"8.6": "python3.10"}  # that import a version's module; this one for all others
IN_THE_MODULE = f"""
import json, tensorrt_bindings as trt
def names(kind):
    members = getattr(kind, "__members__", None)
    return list(members) if members else [name + "()" * callable(getattr(kind, name)) for name in dir(kind)
                                          if not name.startswith("_")]
found = {{name: names(getattr(trt, name)) for name in {CLASSES!r}}}
found["module"] = [name for name in {CLASSES + FUNCTIONS!r} if hasattr(trt, name)]
print(json.dumps([trt.__version__, found]))
"""


def empty_libraries(extension: Path, folder: Path) -> None:
    """The libraries of TensorRT that an extension module names, with its functions, which do nothing."""
    wanted = subprocess.run(["objdump", "-p", extension], text=True, capture_output=True, check=True).stdout.split()
    symbols = subprocess.run(["nm", "-D", "--undefined-only", extension], text=True, capture_output=True, check=True)
    known = ("create", "get", "initLib", "_ZN11nvuffparser", "_ZN14nvcaffeparser")
    functions = [word for word in symbols.stdout.split() if word.startswith(known) and "@" not in word]
    source = folder / "empty.c"
    source.write_text("".join(f'void *f{index}(void) __asm__("{name}");\nvoid *f{index}(void) {{ return 0; }}\n'
                              for index, name in enumerate(functions)))
    for library in {word for word in wanted if word.startswith("libnv")}:
        subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", folder / library, source],
                       check=True)


def names_of(wheel: Path) -> tuple[str, dict[str, list[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        empty_libraries(wheel / "tensorrt_bindings/tensorrt.so", Path(folder))
        python = next((python for version, python in PYTHONS.items()
                       if list(wheel.glob(f"tensorrt_bindings-{version}*"))), sys.executable)
        done = subprocess.run([python, "-c", IN_THE_MODULE], text=True, capture_output=True, check=True,
                              env=os.environ | {"LD_LIBRARY_PATH": folder, "PYTHONPATH": str(wheel)})
    version, found = json.loads(done.stdout)
    return version, found


def main(wheels: list[str]) -> None:
    """One line for each class and set of versions, so that a new version is easy to read as a difference."""
    recorded = dict(names_of(Path(wheel).resolve()) for wheel in wheels)
    by_versions: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for kind in ("module", *CLASSES):
        everything = dict.fromkeys(name for found in recorded.values() for name in found[kind])
        for name in everything:
            having = [version for version, found in recorded.items() if name in found[kind]]
            by_versions[kind].setdefault(" ".join(having), []).append(name)
    rows = [f'  {json.dumps(kind)}: {{\n' + ",\n".join(f"    {json.dumps(key)}: {json.dumps(names)}"
            for key, names in groups.items()) + "\n  }" for kind, groups in by_versions.items()]
    print(f'{{\n "versions": {json.dumps(list(recorded))},\n "names": {{\n' + ",\n".join(rows) + "\n }\n}")


if __name__ == "__main__":
    main(sys.argv[1:])
