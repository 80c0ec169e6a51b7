"""A device runs from the checkout with what its system brings: JetPack 6 has Python 3.10, numpy 1.21 and OpenCV 4.5.

Numpy 1.21 has no wheel for newer Pythons, so the sources are read for it; numpy 1.23 and OpenCV 4.5 are tried in truth.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekp.artifact import write_artifact
from edgekp.codecs import CODECS, SCENE_CODECS
from edgekp.contract import make_contract
from edgekp.preprocess import InputSpec
from edgekp.skeletons import COCO17

OLDEST = ("numpy==1.23.2", "opencv-python-headless==4.5.5.64")  # the oldest wheels for Python 3.11
HOST_ONLY = ("edgekp/codecs/gaussian_kernel.py", "edgekp/codecs/openpose_kernel.py",  # targets are drawn on the host
             "edgekp/doctor/near_pictures.py", "deploy/runtime/torch_session.py")

# What numpy 1.21 lacks, by the release that brought it (numpy's release notes).
NAMES = {name: since for since, names in {
    "1.22": "from_dlpack", "1.24": "show_runtime",
    "1.25": "exceptions dtypes", "2.0":
        "acos acosh asin asinh astype atan atan2 atanh bitwise_count bitwise_invert bitwise_left_shift "
        "bitwise_right_shift bool concat isdtype long matrix_transpose permute_dims pow strings trapezoid ulong "
        "unique_all unique_counts unique_inverse unique_values vecdot linalg.cross linalg.diagonal linalg.matmul "
        "linalg.matrix_norm linalg.matrix_transpose linalg.outer linalg.svdvals linalg.tensordot linalg.trace "
        "linalg.vecdot linalg.vector_norm",
    "2.1": "cumulative_prod cumulative_sum unstack", "2.2": "matvec vecmat"}.items() for name in names.split()}
KEYWORDS = {("percentile", "method"): "1.22", ("quantile", "method"): "1.22", ("median", "method"): "1.22",
            ("unique", "equal_nan"): "1.24", ("isin", "kind"): "1.24", ("stack", "dtype"): "1.24",
            ("vstack", "dtype"): "1.24", ("hstack", "dtype"): "1.24", ("asarray", "copy"): "2.0",
            ("std", "correction"): "2.0", ("var", "correction"): "2.0", ("clip", "min"): "2.1", ("clip", "max"): "2.1",
            ("reshape", "shape"): "2.1"}
GENERIC = {"number", "integer", "signedinteger", "unsignedinteger", "inexact", "floating", "complexfloating",
           "ndarray", "dtype"}  # can be subscripted from 1.22 on


class TooNew(ast.NodeVisitor):
    """Collects what a file asks of numpy at run time that 1.21 lacks; annotations are never evaluated."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = numpy_name(node)
        if name in NAMES:
            self.found.append(f"line {node.lineno}: np.{name} is of numpy {NAMES[name]}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            since = KEYWORDS.get((numpy_name(node.func), keyword.arg or ""))
            if since:
                self.found.append(f"line {node.lineno}: {keyword.arg}= is of numpy {since}")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if numpy_name(node.value) in GENERIC:
            self.found.append(f"line {node.lineno}: np.{numpy_name(node.value)}[...] is of numpy 1.22")
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        node.returns = None
        self.generic_visit(node)


def numpy_name(node: ast.expr) -> str:
    """``linalg.norm`` for the expression ``np.linalg.norm``; empty for what is not numpy's."""
    return ast.unparse(node)[3:] if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("np.") else ""


def too_new(source: str) -> list[str]:
    visitor = TooNew()
    visitor.visit(ast.parse(source))
    return visitor.found


def device_files(repository: Path) -> Iterator[Path]:
    files = [*(repository / "edgekp").rglob("*.py"), *(repository / "deploy").glob("*.py"),
             *(repository / "deploy/runtime").rglob("*.py")]
    return (file for file in sorted(files) if file.relative_to(repository).as_posix() not in HOST_ONLY)


def test_what_runs_on_a_device_asks_nothing_of_numpy_that_came_after_1_21(repository: Path) -> None:
    found = [f"{file.relative_to(repository)}: {line}" for file in device_files(repository)
             for line in too_new(file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("source", [
    "Float = npt.NDArray[np.floating[Any]]", "np.concat([a, b])", "np.linalg.vector_norm(a)", "a.astype(np.bool)",
    "np.percentile(a, 5, method='nearest')", "def f(x=np.trapezoid(y)): ...", "x: int = np.unstack(a)"])
def test_a_planted_newer_name_is_found(source: str) -> None:
    assert too_new(source), f"{source} was let through"


@pytest.mark.parametrize("source", [
    "Float: TypeAlias = 'npt.NDArray[np.floating[Any]]'", "def f(x: np.ndarray[Any, Any]) -> np.floating[Any]: ...",
    "x: np.dtype[Any] = np.zeros(3)", "np.linalg.norm(a)", "np.percentile(a, 5)", "strings.concat(a)"])
def test_what_numpy_1_21_has_passes(source: str) -> None:
    assert too_new(source) == []


def test_the_names_recorded_as_newer_are_names_of_numpy() -> None:
    """A misspelt entry would never be found."""
    newest = tuple(int(part) for part in np.__version__.split(".")[:2])
    due = [name for name, since in NAMES.items() if tuple(int(part) for part in since.split(".")) <= newest]
    missing = [name for name in due if not hasattr(np.linalg if "." in name else np, name.rpartition(".")[2])]
    assert not missing


NO_TOML = """
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in ("tomllib", "tomli"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def module_name(repository: Path, file: Path) -> str:
    return ".".join(file.relative_to(repository).with_suffix("").parts)


def test_a_device_needs_no_reader_of_toml_which_python_3_10_lacks(repository: Path) -> None:
    modules = ["edgekp.__main__", *(module_name(repository, file) for folder in ("deploy", "deploy/runtime")
                                    for file in sorted((repository / folder).glob("[!_]*.py"))
                                    if not file.name.endswith(("_session.py", "_driver.py")))]
    done = subprocess.run([sys.executable, "-c", NO_TOML, *modules], cwd=repository, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing but the oldest numpy and OpenCV that can be had for it."""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", *OLDEST],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' and '.join(OLDEST)} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return python


IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:  # of a backend or another optional package
        if error.name in ("numpy", "cv2") or (error.name or "").startswith(("edgekp", "deploy")):
            raise
"""
ASK_FOR_NAMES = """
import functools, sys, cv2, numpy as np
def exists(name):
    library, *below = name.split(".")
    try:
        functools.reduce(getattr, below, {"np": np, "cv2": cv2}[library])
    except AttributeError:
        return False
    return True
missing = [name for name in sys.argv[1:] if not exists(name)]
sys.exit(f"numpy {np.__version__} and OpenCV {cv2.__version__} lack {missing}" if missing else 0)
"""


@pytest.mark.slow
def test_every_module_of_the_device_is_imported_with_the_oldest_libraries(repository: Path, old_python: Path) -> None:
    modules = [module_name(repository, file).removesuffix(".__init__") for file in device_files(repository)
               if file.name != "__main__.py"]
    done = subprocess.run([old_python, "-B", "-c", IMPORT_ALL, *modules], cwd=repository, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr


def asked_of_libraries(source: str) -> set[str]:
    """``np.zeros`` and ``cv2.VideoWriter.fourcc``, as far as a file does not ask itself whether they exist."""
    tree = ast.parse(source)
    asked = {f"{of}.{name}" for of, name in re.findall(r'hasattr\((cv2[.\w]*), "(\w+)"\)', source)}
    choices = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "hasattr(cv2" in ast.unparse(node.test)]
    chosen = {ast.unparse(node) for choice in choices for node in ast.walk(choice) if isinstance(node, ast.Attribute)}
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - chosen - asked
    return {name for name in names if re.fullmatch(r"(np|cv2)(\.\w+)+", name)}


@pytest.mark.slow
def test_every_name_asked_of_numpy_and_opencv_exists_in_the_oldest(repository: Path, old_python: Path) -> None:
    names = {name for file in device_files(repository) for name in asked_of_libraries(file.read_text(encoding="utf-8"))}
    done = subprocess.run([old_python, "-c", ASK_FOR_NAMES, *sorted(names)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("codec", [*CODECS, *SCENE_CODECS])
def test_an_artifact_made_here_is_verified_with_the_oldest_libraries(
        repository: Path, old_python: Path, tmp_path: Path, codec: str) -> None:
    """Crop, normalisation and decoding give the host's golden vectors, within the tolerances stored beside them."""
    (tmp_path / "model.onnx").write_bytes(b"no model")
    spec = InputSpec((64, 64), padding=1.0 if codec in SCENE_CODECS else 1.25)
    contract = make_contract(spec, codec, {}, COCO17)
    write_artifact(tmp_path, "onnx", contract, {"file": "model.onnx"})
    done = subprocess.run([old_python, "-B", "-m", "edgekp", "verify", tmp_path], cwd=repository, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "golden vectors reproduced" in done.stdout


@pytest.mark.slow
def test_every_command_of_the_device_says_what_it_takes_with_the_oldest_libraries(
        repository: Path, old_python: Path) -> None:
    for script in sorted((repository / "deploy").glob("[!_]*.py")):
        done = subprocess.run([old_python, "-B", script, "--help"], cwd=repository, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, f"{script.name}: {done.stderr}"
