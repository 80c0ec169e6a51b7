"""ONNX files that say their weights are in another file: at the doors for models to lint and for detectors.

A secret lies outside of the model's folder. A try survives if both doors refuse the model with one line, or take it
with exactly the weights that lie beside it; weights made of the secret, or of anything else, are silent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.faults.outcome import Outcome, tally
from deploy.export.qdq_lint.foreign_model import read_model, tensors
from deploy.runtime.detectors.detector import open_detector
from edgekp.errors import ArtifactError

FAULT = "external-data"
SHAPE = (3, 3, 2, 2)
BESIDE = "weights.bin"
Entries = dict[str, str]


def _at(location: str, **others: str) -> Callable[[Path], Entries]:
    return lambda folder: {"location": location.replace("FOLDER", str(folder)), **others}


def _linked(link: Callable[[Path, Path], None], location: str = "link.bin") -> Callable[[Path], Entries]:
    """Weights at a link to the secret, or below a link to its folder."""
    def make(folder: Path) -> Entries:
        outside = folder.parent / "outside"
        link(outside if "/" in location else outside / "secret.bin", folder / location.partition("/")[0])
        return {"location": location}

    return make


def _pipe(folder: Path) -> Entries:
    os.mkfifo(folder / "pipe.bin")
    return {"location": "pipe.bin"}


def _symbolic(target: Path, link: Path) -> None:
    link.symlink_to(target)


VARIANTS: dict[str, Callable[[Path], Entries]] = {
    "beside the model": _at(BESIDE),
    "above the folder": _at("../outside/secret.bin"),
    "above, by a detour": _at("below/../../outside/secret.bin"),
    "an absolute path": _at("FOLDER/../outside/secret.bin"),
    "an absolute path inside": _at(f"FOLDER/{BESIDE}"),
    "a symbolic link": _linked(_symbolic),
    "a hard link": _linked(os.link),
    "a linked folder": _linked(_symbolic, "linked/secret.bin"),
    "a link to the model's own folder": _linked(lambda _, link: link.symlink_to(link.parent), "itself/" + BESIDE),
    "a device": _at("/dev/zero"),
    "a pipe": _pipe,
    "a folder": _at("below"),
    "no such file": _at("gone.bin"),
    "an empty name": _at(""),
    "percent signs": _at("%2e%2e/outside/secret.bin"),
    "a path of Windows": _at("..\\outside\\secret.bin"),
    "a drive of Windows": _at("C:/outside/secret.bin"),
    "an offset beyond the end": _at(BESIDE, offset="9223372036854775807"),
    "a negative offset": _at(BESIDE, offset="-4"),
    "more bytes than there are": _at(BESIDE, length="1000000000000"),
    "fewer bytes than the shape": _at(BESIDE, length="8"),
    "a NUL in the name": _at(BESIDE + "\0.png"),
}


def values() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def write_variant(name: str, scratch: Path, *, nested: bool = False) -> Path:
    """The model of a variant in a folder of its own; ``nested`` hides the tensor in a node's attribute."""
    folder, outside = scratch / "model", scratch / "outside"
    (folder / "below").mkdir(parents=True)
    outside.mkdir()
    (folder / BESIDE).write_bytes(values().tobytes())
    (outside / "secret.bin").write_bytes((values() + 1000).tobytes())
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=SHAPE, data_location=TensorProto.EXTERNAL)
    for key, value in VARIANTS[name](folder).items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    nodes = [helper.make_node("Conv", ["images", "weight"], ["output"])]
    if nested:
        nodes.insert(0, helper.make_node("Constant", [], ["weight"], value=tensor))
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info("images", 1, [1, 3, 8, 8])],
                              [helper.make_tensor_value_info("output", 1, [1, 3, 7, 7])], [] if nested else [tensor])
    path = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def verdict(path: Path) -> str:
    """What became of a model at both doors."""
    return max(_linted(path), _detected(path), key=("survived", "lost", "silent").index)


def _linted(path: Path) -> str:
    try:
        model = read_model(path)
    except ArtifactError as error:
        return "lost" if "\n" in str(error) else "survived"
    found = [numpy_helper.to_array(tensor) for tensor in tensors(model) if tensor.name == "weight"]
    return "survived" if len(found) == 1 and np.array_equal(found[0], values()) else "silent"


def _detected(path: Path) -> str:
    try:
        open_detector(path)
    except ArtifactError as error:
        return "survived" if "weights are in another file" in str(error) else "lost"
    return "silent"  # a detector is one file


def usual(path: Path) -> np.ndarray:
    """The weight as ``onnx.load`` gives it, with whatever file it was told to read."""
    return np.asarray(numpy_helper.to_array(next(iter(onnx.load(path).graph.initializer))))


def external_data(count: int, seed: int) -> Outcome:
    """``count`` models, the variants in turn from the one that ``seed`` says, each plain and nested in turn."""
    names = list(VARIANTS)
    verdicts = []
    for number in range(count):
        with TemporaryDirectory() as scratch:
            name = names[(seed + number) % len(names)]
            verdicts.append(verdict(write_variant(name, Path(scratch), nested=number // len(names) % 2 == 1)))
    return tally(FAULT, verdicts)
