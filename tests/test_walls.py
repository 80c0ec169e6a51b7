"""The walls between the layers: every import is read and held against the table of who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

OURS = {"edgekp", "train", "optimize", "deploy", "eval"}


@dataclass(frozen=True)
class Layer:
    """What the files of one layer may import.

    Attributes:
        ours: packages of this repository, each with what is below it.
        lazy: packages that are imported only inside a function, or at the top of a file of one backend.
    """

    ours: tuple[str, ...]
    third_party: frozenset[str]
    lazy: frozenset[str] = frozenset()


BACKENDS = frozenset({"onnxruntime", "openvino", "tensorrt", "pycuda", "cuda", "tflite_runtime", "ai_edge_litert"})
OF_ONE_BACKEND = ("_session.py", "_driver.py")  # such a file is imported only when its backend is asked for
CONTRACT = Layer(("edgekp",), frozenset({"numpy", "tomli"}))
PICTURES = Layer(("edgekp",), CONTRACT.third_party | {"cv2"})
KERNEL = Layer(("edgekp",), CONTRACT.third_party | {"numba"})  # targets are drawn on the host alone
DATA = Layer(("edgekp",), PICTURES.third_party, frozenset({"jinja2"}))
TRAIN = Layer(("edgekp", "train"), frozenset({"numpy", "torch", "cv2", "safetensors", "tqdm"}),
              frozenset({"matplotlib"}))
DEVICE = Layer(("edgekp", "deploy.runtime"), frozenset({"numpy", "cv2"}), BACKENDS)
# A checkpoint runs on the host alone, to be compared with what was exported from it.
CHECKPOINT = Layer(("edgekp", "train.models"), frozenset({"numpy", "torch"}))
# An export is verified through the runtime that will run it, so deploy.runtime is below deploy.export.
EXPORT = Layer(("edgekp", "train.models", "deploy.runtime", "deploy.export"), frozenset(
    {"numpy", "torch", "onnx", "onnxslim", "google"}), frozenset({"ai_edge_litert", "flatbuffers", "onnxruntime"}))
EVAL = Layer(("edgekp", "deploy.runtime", "eval"), frozenset(
    {"numpy", "cv2", "onnx", "scipy", "matplotlib", "jinja2", "markupsafe"}))  # markupsafe is jinja2's
# A budget is kept where it is spent: what a step gives is exported, run and judged by the very gate of the run.
OPTIMIZE = Layer(("edgekp", "train", "deploy.export", "deploy.runtime", "eval", "optimize"), frozenset(
    {"numpy", "torch", "torch_pruning", "scipy"}), frozenset({"modelopt", "matplotlib", "jinja2"}))

LAYERS = {"edgekp/preprocess.py": PICTURES, "edgekp/show_targets.py": PICTURES,
          "edgekp/codecs/gaussian_kernel.py": KERNEL, "edgekp/codecs/openpose_kernel.py": KERNEL,
          "edgekp/importers": DATA, "edgekp/doctor": DATA, "edgekp": CONTRACT, "train": TRAIN, "optimize": OPTIMIZE,
          "deploy/export": EXPORT, "deploy/runtime/torch_session.py": CHECKPOINT,
          "deploy/runtime/torchscript_session.py": CHECKPOINT,
          "deploy": DEVICE, "eval": EVAL}  # the first name that fits a file is its layer


def layer_of(path: str) -> Layer:
    return next(layer for name, layer in LAYERS.items() if path == name or path.startswith(f"{name}/"))


def imports(path: str, source: str) -> Iterator[tuple[int, str, bool]]:
    """Each import as (line, dotted module, is it inside a function)."""
    tree = ast.parse(source, path)
    inside = {id(node) for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
              for node in ast.walk(function)}
    package = path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            modules = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _is_dynamic_import(node.func):
            modules = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        else:
            continue
        yield from ((node.lineno, str(module), id(node) in inside) for module in modules)


def _is_dynamic_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def broken_walls(path: str, source: str) -> list[str]:
    """One line per import that the file's layer does not allow."""
    layer = layer_of(path)
    return [f"{path}:{line}: imports {module}" for line, module, inside in imports(path, source)
            if not _is_allowed(layer, module, inside or path.endswith(OF_ONE_BACKEND))]


def _is_allowed(layer: Layer, module: str, is_lazy: bool) -> bool:
    top = module.partition(".")[0]
    if top in OURS:
        return any(f"{module}.".startswith(f"{allowed}.") for allowed in layer.ours)
    return top in sys.stdlib_module_names or top in layer.third_party or (is_lazy and top in layer.lazy)


@pytest.mark.parametrize("folder", sorted(OURS))
def test_no_file_imports_what_its_layer_may_not(repository: Path, folder: str) -> None:
    files = sorted((repository / folder).rglob("*.py"))
    assert files
    broken = [line for file in files
              for line in broken_walls(file.relative_to(repository).as_posix(), file.read_text(encoding="utf-8"))]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(("path", "source"), [
    ("edgekp/stage.py", "import train"),
    ("edgekp/stage.py", "import cv2"),
    ("edgekp/codecs/heatmap.py", "def f():\n    import torch"),
    ("edgekp/codecs/heatmap.py", "import numba"),
    ("edgekp/importers/mpii.py", "import scipy.io"),
    ("edgekp/recipe.py", "from importlib import import_module\nimport_module('torch')"),
    ("edgekp/codecs/heatmap.py", "from ...train import loop"),
    ("train/loop.py", "from optimize.prune import prune"),
    ("train/loop.py", "import onnx"),
    ("eval/gate.py", "from optimize.judge import Judge"),
    ("deploy/export/verify.py", "from eval.predict import predict"),
    ("optimize/quantize.py", "import modelopt.torch.quantization"),
    ("deploy/run_trt.py", "import tensorrt"),
    ("deploy/run_trt.py", "def f():\n    import torch"),
    ("deploy/runtime/camera.py", "import onnxruntime"),
    ("deploy/runtime/onnx_session.py", "from train.models import build"),
    ("deploy/runtime/session.py", "import deploy.export.verify"),
    ("deploy/runtime/session.py", "from deploy import export"),
    ("deploy/export/checkpoint_to_onnx.py", "from train import loop"),
    ("deploy/export/checkpoint_to_onnx.py", "from train.loop import fit"),
    ("deploy/export/checkpoint_to_onnx.py", "from train.models_of_others import fit"),
    ("eval/predict.py", "import torch"),
    ("eval/predict.py", "from deploy.export import checkpoint_to_onnx"),
    ("eval/gate.py", "if TYPE_CHECKING:\n    from train.loop import History"),
])
def test_a_planted_violation_is_found(path: str, source: str) -> None:
    assert broken_walls(path, source), f"{path} was allowed: {source}"


@pytest.mark.parametrize(("path", "source"), [
    ("edgekp/preprocess.py", "import cv2"),
    ("edgekp/codecs/gaussian_kernel.py", "import numba"),
    ("edgekp/doctor/page.py", "def f():\n    import jinja2"),
    ("edgekp/codecs/heatmap.py", "from . import regression\nfrom ..sample import Float"),
    ("deploy/runtime/session.py", "def f():\n    import onnxruntime"),
    ("deploy/runtime/trt/trt_session.py", "import tensorrt"),
    ("deploy/runtime/gpu/pycuda_driver.py", "import pycuda.driver"),
    ("deploy/export/checkpoint_to_onnx.py", "from train.models import build\nimport train.models.heads"),
    ("eval/predict.py", "from deploy.runtime.session import open_session"),
])
def test_what_the_table_allows_passes(path: str, source: str) -> None:
    assert broken_walls(path, source) == []


# What a device need not have: the host's packages and stages, and every backend until a model of its kind is opened.
BLOCKED = sorted({"torch", "torchvision", "onnx", "onnxslim", "tensorflow", "safetensors", "scipy", "matplotlib",
                  "pycocotools", "tqdm", "numba", "jinja2", "tomllib", "tomli", "train",
                  "optimize", "eval", "deploy.export"} | BACKENDS)
BLOCKER = f"""
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(f"{{name}}.".startswith(f"{{blocked}}.") for blocked in {BLOCKED!r}):
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocker())
"""


def python_with_blocked_packages(repository: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCKER + code], cwd=repository, text=True, capture_output=True,
                          check=False)


def test_the_runtime_starts_without_the_packages_of_the_host(repository: Path) -> None:
    done = python_with_blocked_packages(repository, "import deploy.runtime.session")
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_device_starts_without_the_packages_of_the_host(repository: Path) -> None:
    for script in sorted((repository / "deploy").glob("[!_]*.py")):
        done = python_with_blocked_packages(repository, f"""
sys.argv = [{script.name!r}, "--help"]
runpy.run_path({str(script)!r}, run_name="__main__")
""")
        assert done.returncode == 0, f"{script.name}: {done.stderr}"
        assert "usage:" in done.stdout


@pytest.mark.parametrize("module", ["deploy.runtime.onnx_session", "train.models"])
def test_the_block_holds(repository: Path, module: str) -> None:
    done = python_with_blocked_packages(repository, f"import {module}")
    assert "is blocked" in done.stderr
