"""Checkpoints that run a command when they are unpickled, at the door for foreign weights.

Each would make a file, the canary. A try survives if the file of weights is refused with one line, and there is no
canary. That the attacks work is shown by ``unguarded``, which opens them as the usual libraries did for years.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.faults.outcome import Outcome, tally
from edgekp.errors import ArtifactError
from train.foreign_weights import read_weights

FAULT = "malicious-pickle"


class Call:
    """Unpickles as the result of a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


class Built:
    """Unpickles as an object whose state is set by a call."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), {"state": self.call}


def _shell(canary: Path) -> Call:
    import os

    return Call(os.system, f"touch '{canary}'")


def _program(canary: Path) -> str:
    return f"__import__('pathlib').Path({str(canary)!r}).touch()"


def _saved(value: Any, *, as_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


def _by_hand(canary: Path) -> bytes:
    """A pickle without any Python class, written in its own language: global, mark, text, tuple, reduce, stop."""
    return b"cbuiltins\neval\n(V" + _program(canary).encode() + b"\ntR."


def _in_archive(content: bytes) -> bytes:
    """An archive as torch writes it, with a pickle of our own; ``data/0`` lies there as bait."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in {"data.pkl": content, "version": b"3\n", "data/0": bytes(16), "byteorder": b"little"}.items():
            archive.writestr(f"archive/{name}", part)
    return buffer.getvalue()


def _in_tar(content: bytes) -> bytes:
    """As torch saved before 0.1.10: a tar archive of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _loaded_from_bytes(canary: Path) -> bytes:
    """A pickle inside of bytes, for torch's own function that unpickles them."""
    return _saved({"weight": Call(torch.storage._load_from_bytes,  # type: ignore[no-untyped-call]
                                  pickle.dumps(_shell(canary)))})


def _in_numpy(canary: Path) -> bytes:
    import numpy as np

    array = np.empty(1, dtype=object)
    array[0] = _shell(canary)
    return _saved({"weight": array})


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda canary: _saved(_shell(canary)),
    "builtins.eval": lambda canary: _saved({"weight": Call(eval, _program(canary))}),
    "builtins.exec among weights": lambda canary: _saved(
        {"weight": torch.zeros(3), "epoch": [{"deep": (1, Call(exec, _program(canary)))}]}),
    "written by hand": _by_hand,
    "written by hand, in torch's archive": lambda canary: _in_archive(_by_hand(canary)),
    "numpy's array of objects": _in_numpy,
    "torch.storage._load_from_bytes": _loaded_from_bytes,
    "state of an OrderedDict": lambda canary: _saved(Built(_shell(canary))),
    "the format before archives": lambda canary: _saved({"weight": _shell(canary)}, as_zip=False),
    "the tar format": lambda canary: _in_tar(_by_hand(canary)),
}


def unguarded(path: Path) -> None:
    """Open a file as ``torch.load`` did by default before 2.6; for the proof that an attack is one."""
    torch.load(path, weights_only=False)


def verdict(name: str, folder: Path, suffix: str = ".pt") -> str:
    """What became of one attack at the door."""
    canary, path = folder / "canary", folder / f"weights{suffix}"
    path.write_bytes(ATTACKS[name](canary))
    try:
        read_weights(path)
    except ArtifactError as error:
        return "lost" if canary.exists() or "\n" in str(error) else "survived"
    return "lost" if canary.exists() else "silent"


def malicious_pickles(count: int, seed: int) -> Outcome:
    """``count`` files, the attacks in turn; ``seed`` says with which of them it begins."""
    names = list(ATTACKS)
    verdicts = []
    for number in range(count):
        with TemporaryDirectory() as folder:
            suffix = (".pt", ".pth", ".ckpt")[number // len(names) % 3]
            verdicts.append(verdict(names[(seed + number) % len(names)], Path(folder), suffix))
    return tally(FAULT, verdicts)
