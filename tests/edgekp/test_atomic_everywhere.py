"""Nothing that somebody may read later is written but through ``edgekp.atomic``: every call that writes is seen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("edgekp", "train", "optimize", "deploy", "eval", "benchmarks")
WRITERS = {"write_text", "write_bytes", "tofile", "savetxt", "savez", "savez_compressed", "savefig", "imwrite",
           "save_file", "copyfile", "copytree", "copy2", "move"}
SAVERS = {"np", "numpy", "onnx", "torch", "jit"}  # their ``save`` writes a file; that of safetensors.torch does not
OPENERS = {"open", "fdopen"}
WRITING_FLAGS = {"O_WRONLY", "O_RDWR"}

SCRATCH = "into the scratch folder of a stage, which is flushed and published as one"
MEMORY = "into memory"
DEVICE = "no file: a device, or /dev/null"
STREAM = "line by line, as things happen"
OWN = "into a temporary folder of the benchmark's own"
ALLOWED = {
    "edgekp/atomic.py open": "this is the one",
    "edgekp/artifact.py savez_compressed": MEMORY,
    "edgekp/cli.py open": DEVICE,
    "edgekp/doctor/device_cameras.py open": DEVICE,
    "edgekp/run_lock.py open": "who holds a lock; nothing rests on it",
    "train/curves.py savefig": MEMORY,
    "train/distributed.py open": DEVICE,
    "train/drawn/dataset.py write_bytes": SCRATCH,
    "optimize/search/pictures.py savefig": MEMORY,
    "deploy/export/__main__.py copy2": SCRATCH,
    "deploy/export/to_torchscript.py save": MEMORY,
    "deploy/runtime/camera/v4l2.py open": DEVICE,
    "deploy/runtime/loop/json_lines.py open": STREAM,
    "deploy/runtime/tflite_session.py open": DEVICE,
    "eval/charts.py savefig": MEMORY,
    "eval/verdict.py open": STREAM,
    "benchmarks/claims/made_sets.py write_bytes": SCRATCH,
    "benchmarks/latency_gate.py save": OWN,
    "benchmarks/oks_ap.py write_text": OWN,
    "benchmarks/populations.py write_text": OWN,
}
OWN_FOLDERS = ("benchmarks/faults/", "benchmarks/soak/")  # they damage files on purpose, in folders of their own


def writing_calls(source: str) -> Iterator[str]:
    """The name of each function that is called to write a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in WRITERS or (name in OPENERS and _writes(node)) or (name == "save" and _saves(function)):
                yield name


def _writes(call: ast.Call) -> bool:
    """Whether ``open`` is given a mode or flags that write."""
    values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg in ("mode", "flags"))]
    modes = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    flags = {node.attr for value in values for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    return any(len(mode) <= 3 and set(mode) & set("wax+") for mode in modes) or bool(flags & WRITING_FLAGS)


def _saves(function: ast.expr) -> bool:
    owner = function.value if isinstance(function, ast.Attribute) else None
    return getattr(owner, "attr", getattr(owner, "id", "")) in SAVERS


def test_every_file_is_written_atomically_or_has_a_reason_not_to_be(repository: Path) -> None:
    found = {f"{path.relative_to(repository).as_posix()} {name}" for package in PACKAGES
             for path in (repository / package).rglob("*.py") for name in writing_calls(path.read_text("utf-8"))}
    found = {call for call in found if not call.startswith(OWN_FOLDERS)}
    assert found - ALLOWED.keys() == set(), "write through edgekp.atomic.write_file"
    assert ALLOWED.keys() - found == set(), "no longer there"


@pytest.mark.parametrize("source", [
    "path.write_text('a')", "path.open('w')", "open(path, 'ab')", "open(path, mode='r+')", "np.savez(path, a=1)",
    "os.open(path, os.O_RDWR | os.O_CREAT)", "torch.save(net, path)", "torch.jit.save(net, path)", "onnx.save(m, p)",
    "shutil.copyfile(a, b)", "os.fdopen(descriptor, 'wb')", "cv2.imwrite(path, picture)"])
def test_a_call_that_writes_is_seen(source: str) -> None:
    assert len(list(writing_calls(source))) == 1


@pytest.mark.parametrize("source", ["path.open()", "open(path, 'rb')", "os.open(path, os.O_RDONLY)", "save(tensors)",
                                    "image.open(name)", "text.replace('w', 'a')", "path.read_text('utf-8')"])
def test_a_call_that_reads_is_not(source: str) -> None:
    assert list(writing_calls(source)) == []
